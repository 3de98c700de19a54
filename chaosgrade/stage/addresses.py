"""Loopback addresses of one stage: a block of its own, so that stages run side by side."""

import itertools
import os
import random
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from chaosgrade.errors import UsageError

_CLAIM_PORT = 61_517
_FIRST_BLOCK, _LAST_BLOCK = 16, 250
_SUBNET_BITS = 21
"""31 subnets beside the stage's own services, of 2,000 addresses each."""
_FIRST_HOST = 10


def outside(host: str) -> str:
    """The address at which customers find what has `host` on the stage's network."""
    return f"127.{host.partition('.')[2]}"


class Addresses:
    """Claims a random block 127.R.0.0/16 and gives out addresses, by subnet.

    What is on the stage's network has the same numbers, but for the first on some fabrics.

    The claim is a bound socket: the kernel frees it however the stage ends.

    Args:
        network: the first number of addresses on the stage's network.
        on_subnet: told of a subnet's id and network before an address in it is given out.

    Raises:
        UsageError: every block is taken.
    """

    def __init__(self, network: int, on_subnet: Callable[[str, IPv4Network], None]) -> None:
        self._network = network
        self._on_subnet = on_subnet
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
        self.services_within = self._within(self.services)
        """The same on the stage's network."""
        _, *free = IPv4Network(f"{network}.{block}.0.0/16").subnets(new_prefix=_SUBNET_BITS)
        self._free = iter(free)
        self._given: dict[str, itertools.count[int]] = {}
        self.metadata = self._within(f"127.{block}.0.254")
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
            self._on_subnet(subnet, network)
            self._given[subnet] = itertools.count()
        network = self.networks[subnet]
        room = network.num_addresses - _FIRST_HOST - 1
        # Addresses come round again when their first holders have long been gone.
        number = _FIRST_HOST + next(self._given[subnet]) % room
        return str(IPv4Address(int(network.network_address) + number))

    def _within(self, host: str) -> str:
        return f"{self._network}.{host.partition('.')[2]}"
