"""The address of a network interface, for servers that listen on one interface and on no other."""

import errno
import fcntl
import socket
import struct

from simai_rules.staging.server import ServerFailed

_SIOCGIFADDR = 0x8915
_LONGEST_NAME = 15


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
                return socket.inet_ntoa(answer[20:24])
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
