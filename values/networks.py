"""Addresses of the network, and whether they are within a network."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address


def is_in(address: str, networks: Collection[IPv4Network | IPv6Network]) -> bool:
    """Whether the address is in one of these networks; one of IPv4 may be written as one of IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
