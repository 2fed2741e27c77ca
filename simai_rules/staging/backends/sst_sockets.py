"""Setting up a library's sockets as it cannot be told to: listening on one address only, sending without delay."""

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_SO_ATTACH_FILTER = 26
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_DESTINATION = 0x1_0000_0000 - 0x10_0000 + 16
"""Byte 16 of the network header, as linux/filter.h counts (SKF_NET_OFF)."""


def own_sockets() -> set[int]:
    """Return the descriptors of this process that are sockets."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(entry.readlink()).startswith("socket:"):
                found.add(int(entry.name))
    return found


def send_at_once(descriptor: int) -> None:
    """Let a TCP socket send small messages at once (TCP_NODELAY), as those do that it accepts afterwards.

    Else a message waits until the one before it is acknowledged, which the other side puts off for 40 ms.
    """
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def accept_only(descriptor: int, host: str) -> None:
    """Let a listening IPv4 socket see no packets but those to the address `host`; leave any other socket as it is.

    A classic BPF filter (socket(7), SO_ATTACH_FILTER), which needs no privilege: to all other addresses the port looks
    as if a firewall dropped what is sent there.
    """
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        if listener.family != socket.AF_INET or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
        (address,) = struct.unpack("!I", socket.inet_aton(host))
        program = (
            (_LOAD, 0, 0, _DESTINATION),
            (_JUMP_IF_EQUAL, 0, 1, address),
            (_RETURN, 0, 0, 0xFFFF_FFFF),
            (_RETURN, 0, 0, 0),
        )
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
        pointer = struct.pack("@HP", len(program), ctypes.addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
