"""Loopback addresses of one stage: a block of its own, so that stages run side by side."""

import itertools
import os
import random
import socket
from ipaddress import IPv4Address, IPv4Network

from chaosgrade.errors import UsageError

_CLAIM_PORT = 61_517
_FIRST_BLOCK, _LAST_BLOCK = 16, 250
_SUBNET_BITS = 21
"""31 subnets beside the stage's own services, of 2,000 addresses each."""
_FIRST_HOST = 10


class Addresses:
    """Claims a random block 127.R.0.0/16 and gives out its addresses, by subnet.

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
        self.services = f"127.{block}.0.2"
        """Of what is in no subnet: the stage's own services, in the first network."""
        _, *free = IPv4Network(f"127.{block}.0.0/16").subnets(new_prefix=_SUBNET_BITS)
        self._free = iter(free)
        self._given: dict[str, itertools.count[int]] = {}
        self.metadata = f"127.{block}.0.254"
        """Of the instance metadata service."""
        self.networks: dict[str, IPv4Network] = {}
        """{subnet id: its network on the stage}, of subnets that have had an address."""

    def for_subnet(self, subnet: str) -> str:
        """The next address in a subnet.

        Raises:
            UsageError: more subnets than the stage has networks for.
        """
        if subnet not in self.networks:
            network = next(self._free, None)
            if network is None:
                raise UsageError("the stage has networks for 31 subnets, the template uses more")
            self.networks[subnet] = network
            self._given[subnet] = itertools.count()
        network = self.networks[subnet]
        room = network.num_addresses - _FIRST_HOST - 1
        # Addresses come round again when their first holders have long been gone.
        number = _FIRST_HOST + next(self._given[subnet]) % room
        return str(IPv4Address(int(network.network_address) + number))
