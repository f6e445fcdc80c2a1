"""Slows down what the network interface of this network namespace sends, or no longer does.

Run as `python -I -S -c SOURCE BYTES_PER_SECOND`, with CAP_NET_ADMIN; 0 bytes end it. Prints the kernel's error, if any.
It asks the kernel itself for a token bucket (tc-tbf(8)), since images have no `tc`. Standard library only, Linux.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

RTM_NEWQDISC, RTM_DELQDISC = 36, 37  # linux/rtnetlink.h
REQUEST, ACK, REPLACE, CREATE = 1, 4, 0x100, 0x400  # linux/netlink.h
TC_H_ROOT = 0xFFFFFFFF  # linux/pkt_sched.h
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_BURST = 1, 6
ETHERNET = 1
BURST = 16 << 10
WAITING_SECONDS = 60
"""How much may wait to be sent before something is dropped."""


def attribute(kind: int, content: bytes) -> bytes:
    """Return a netlink attribute, with its padding."""
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + b"\0" * (-size % 4)


def change(kind: int, flags: int, options: bytes) -> int:
    """Change the queue of the first interface besides loopback; return the kernel's error number, 0 for none."""
    index = next(number for number, name in socket.if_nameindex() if name != "lo")
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0, TC_H_ROOT, 0) + attribute(TCA_KIND, b"tbf\0") + options
    head = struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(head + body)
        return -int(struct.unpack_from("=i", netlink.recv(1 << 16), 16)[0])


def tbf(rate: int) -> bytes:
    """Return the options of a token bucket with so many bytes a second."""
    limited = struct.pack("=BBHhHI", 0, ETHERNET, 0, 0, 0, rate)
    parameters = limited + struct.pack("=BBHhHI", 0, 0, 0, 0, 0, 0) + struct.pack("=III", rate * WAITING_SECONDS, 0, 0)
    parts = attribute(TCA_TBF_PARMS, parameters) + attribute(TCA_TBF_BURST, struct.pack("=I", BURST))
    return attribute(TCA_OPTIONS, parts)


def main() -> None:
    """Slow down, or end that."""
    rate = int(sys.argv[1])
    try:
        number = change(RTM_NEWQDISC, CREATE | REPLACE, tbf(rate)) if rate else change(RTM_DELQDISC, 0, b"")
    except OSError as error:
        number = error.errno or 1
    if number:
        sys.exit(os.strerror(number))


if __name__ == "__main__":
    main()
