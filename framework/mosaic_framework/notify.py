"""Telling systemd how a program is. The standard library alone: the waiter of each agent imports this."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> None:
    """Tell systemd, where it asked for that (see `man sd_notify`)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        sending.connect(path)
        sending.send("\n".join(lines).encode())


def say_stopping() -> None:
    """Say that we stop because we were asked to."""
    notify("STOPPING=1")
