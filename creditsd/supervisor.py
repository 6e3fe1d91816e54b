"""Tells systemd how we are: ready, alive, stopping. Does nothing where nobody supervises."""

from __future__ import annotations

import asyncio
import socket

from creditsd.settings import supervision


def ready(status: str) -> None:
    """Say that start-up is over."""
    _tell(f"READY=1\nSTATUS={status}")


def stopping() -> None:
    """Say that we are ending."""
    _tell("STOPPING=1")


async def keep_alive() -> None:
    """Feed the watchdog for as long as the event loop turns; returns at once where there is none."""
    seconds = supervision().watchdog_seconds
    while seconds is not None:
        _tell("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def _tell(message: str) -> None:
    address = supervision().socket
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        # A leading @ names an abstract socket, which begins with a null byte.
        link.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        link.sendall(message.encode())
