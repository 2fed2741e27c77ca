"""The address of a network interface, for servers that listen on one interface and on no other."""

import errno
import fcntl
import platform
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from simai_rules.staging.server import ServerFailed

_SIOCGIFADDR = 0x8915
_LONGEST_NAME = 15
_ANY_PORT = 9
_ALL = "0.0.0.0"  # noqa: S104 - all interfaces at once, which no server of ours listens on


def address_for(interface: str, option: str, hosts: Sequence[str], index: int) -> str:
    """Return the IPv4 address of `interface` on this node, which is number `index` of `hosts`.

    `auto` is loopback where there is one node, and else the address from which this node talks to the others. `option`
    names the key of the config, for messages. Raises ServerFailed.
    """
    if interface != "auto":
        return address_of(interface, option)
    others = [host for number, host in enumerate(hosts) if number != index]
    return _address_towards(others, option) if others else address_of("lo", option)


def _address_towards(others: Sequence[str], option: str) -> str:
    """Return the address that packets to `others` would leave from, which is one they can answer to.

    Nothing is sent: the kernel looks for the route when a datagram socket is connected. Where one of the others is a
    second name of this machine, its route is loopback, and those beyond it decide. Names that have no address, as those
    of Slurm's nodes need none, leave the address of this node's own name.
    """
    found: Counter[str] = Counter()
    for host in others:
        with suppress(OSError, UnicodeError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0], _ANY_PORT))
            found[str(probe.getsockname()[0])] += 1
    if not found:
        with suppress(OSError, UnicodeError):
            found[str(socket.getaddrinfo(platform.node(), None, socket.AF_INET)[0][4][0])] += 1
    outside = [(count, address) for address, count in found.items() if not address.startswith("127.")]
    chosen = max(outside)[1] if outside else next(iter(found), _ALL)
    if chosen == _ALL:
        raise ServerFailed(
            f"there is no way from {platform.node()} to {', '.join(others[:8])}, whose clients have to reach the "
            f"server. Name the network interface that the nodes share: {option}."
        )
    return chosen


def address_of(interface: str, option: str) -> str:
    """Return the IPv4 address of `interface` of this node; `option` names the key of the config, for messages.

    Raises ServerFailed, with the interfaces that there are, for one that is unknown or has no IPv4 address. The call is
    told in netdevice(7).
    """
    names = [name for _, name in socket.if_nameindex()]
    if interface in names and len(interface.encode()) <= _LONGEST_NAME:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()))
            except OSError as error:
                problem = f"the network interface {interface!r} has no IPv4 address ({error.strerror})"
            else:
                address = socket.inet_ntoa(answer[20:24])
                if address != _ALL:
                    return address
                problem = f"the network interface {interface!r} has no IPv4 address yet"
    else:
        problem = f"this node has no network interface {interface!r}"
    raise ServerFailed(f"{problem}. Set {option} to one of: {', '.join(names)}.")


def why_not_free(host: str, port: int) -> str:
    """Return why no server could listen on `port` of `host` at this moment, or ""."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        return "is in use by another program" if in_use else f"cannot be listened on ({error.strerror})"
    return ""


def free_port(host: str) -> int:
    """Return a port of `host` that nobody listens on at this moment."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
