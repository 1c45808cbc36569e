"""Which network addresses may be reached: the fence around URLs that a partner or a file gives us (semantics 6.7).

A partner names its own `base_url`, so without a fence it could make us call our own services (SSRF).
Names are resolved here and the connection then goes to the very address that was judged: a name that
changes its answer between the two (DNS rebinding) gains nothing.
"""

import ipaddress

from sinks.errors import Refused, Unavailable
from sinks.lookups import LOOKUPS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux takes 0.0.0.0 for itself
        "2001::/32",  # Teredo: stands for an IPv4 address behind somebody's relay
        "64:ff9b:1::/48",  # NAT64 of one's own: stands for any IPv4 address, in a way only that network knows
        "3fff::/20",  # documentation
    )
)
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
    )
)
"""Where clouds keep their machines' secrets, besides link-local 169.254.169.254; some look public, some private."""


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def objection(address: Address, *, allow_private: bool) -> str | None:
    """Why `address` may not be reached, in one word, or None if it may.

    `allow_private` admits loopback and private ranges; link-local and other places where clouds keep their
    secrets, multicast, reserved and unspecified addresses stay forbidden.
    """
    meant = _embedded(address)
    if meant in _METADATA:
        return "metadata"
    if meant.is_loopback:
        return None if allow_private else "loopback"
    if meant.is_multicast:
        return "multicast"
    if meant.is_link_local:
        return "link-local"
    if meant.is_unspecified or meant.is_reserved or any(meant in network for network in _NEVER):
        return "reserved"
    if meant.is_global and not (isinstance(meant, ipaddress.IPv6Address) and meant.is_site_local):
        return None
    return None if allow_private else "private"


async def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The permitted addresses of `host` (a name or an address literal), in the order to try them.

    Names are looked up beside the event loop (`sinks.lookups`); the caller sets the time-out. Raises Unavailable where the
    name has no address now, Refused(0) where it has none that may be reached.
    """
    addresses = [host] if _literal(host) else await _looked_up(host, port)
    objections = {text: objection(ipaddress.ip_address(text), allow_private=allow_private) for text in addresses}
    permitted = [text for text, why in objections.items() if why is None]
    if not permitted:
        kinds = " and ".join(sorted({why for why in objections.values() if why}))
        raise Refused(0, f"{host} is a {kinds} address, which is not allowed (allow_private_addresses admits loopback and private ones)")
    return permitted


def _literal(host: str) -> bool:
    """Whether a host is an address as it is usually written; what else may be one is for the resolver to read."""
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return False


async def _looked_up(host: str, port: int) -> list[str]:
    try:
        found = await LOOKUPS.find(host, port)
    except (OSError, UnicodeError) as problem:
        # UnicodeError: a label that is empty or longer than DNS allows
        raise Unavailable(f"the name {host} has no address: {getattr(problem, 'strerror', None) or problem}") from None
    return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))
