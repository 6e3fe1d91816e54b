"""Tells systemd how we are: ready, alive, stopping. Does nothing where nobody supervises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from creditsd.config.settings import supervision

PATIENCE_SECONDS = 1.0


def ready(what: str) -> None:
    """Say that start-up is over, and what we do now."""
    _tell(f"READY=1\nSTATUS={what}")


def status(what: str) -> None:
    """Say what we do now, for `systemctl status`."""
    _tell(f"STATUS={what}")


def reloading() -> None:
    """Say that the settings are read anew, until `ready`; by the time systemd knows which reload is meant."""
    _tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Say that we are ending."""
    _tell("STOPPING=1\nSTATUS=stopping")


async def keep_alive(alive: Callable[[], bool]) -> None:
    """Feed the watchdog for as long as the event loop turns and we are alive; returns at once where there is none."""
    seconds = supervision().watchdog_seconds
    while seconds is not None:
        if alive():
            _tell("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def _tell(message: str) -> None:
    """Send one datagram. Whether anybody reads it must not decide whether we run."""
    address = supervision().socket
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            # A leading @ names an abstract socket, which begins with a null byte.
            link.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            link.sendall(message.replace("\n\n", "\n").encode())
