"""Loopback addresses of one stage: a block of its own, so that stages run side by side."""

import itertools
import os
import random
import socket

from chaosgrade.errors import UsageError

_CLAIM_PORT = 61_517
_FIRST_BLOCK, _LAST_BLOCK = 16, 250


class Addresses:
    """Claims a random block 127.R.0.0/16 and gives out its addresses.

    The claim is a bound socket: the kernel frees it however the stage ends.

    Raises:
        UsageError: every block is taken.
    """

    def __init__(self) -> None:
        blocks = list(range(_FIRST_BLOCK, _LAST_BLOCK + 1))
        random.Random(os.urandom(8)).shuffle(blocks)
        for block in blocks:
            claim = socket.socket()
            try:
                claim.bind((f"127.{block}.0.1", _CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            self._claim = claim
            self.block = block
            break
        else:
            raise UsageError("no loopback block is free: too many stages run on this machine")
        self._balancers = itertools.count(10)
        self._instances: dict[str, itertools.count[int]] = {}

    def for_balancer(self) -> str:
        """The address of the next balancer."""
        return f"127.{self.block}.0.{next(self._balancers)}"

    def for_instance(self, zone: str) -> str:
        """The address of the next instance of a zone: 127.R.(number of the zone).n and on."""
        number = ord(zone[-1]) - ord("a") + 1
        count = next(self._instances.setdefault(zone, itertools.count(10)))
        # 20 thirds of a block hold more instances than a machine has processes.
        return f"127.{self.block}.{number + 20 * (count // 240)}.{10 + count % 240}"
