"""Asks the daemon on this machine how it is, by its own HTTP surface."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from ipaddress import ip_address

PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon said of itself; `said` in one line, `version` the daemon's own."""

    well: bool
    said: str
    version: str = ""


def probe(address: tuple[str, int], path: str) -> Answer | None:
    """Ask `/readyz` or `/livez` of whoever listens at an address of this machine; None where nobody answers."""
    connection = http.client.HTTPConnection(reachable(address[0]), address[1], timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return _read(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def reachable(host: str) -> str:
    """Return where somebody on this machine finds what listens at a host: one that means all of them is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return host or "127.0.0.1"
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _read(status: int, body: bytes) -> Answer:
    try:
        said = json.loads(body)
        state, problem = str(said["state"]), said.get("problem")
    except (ValueError, KeyError, TypeError):
        return Answer(False, f"what answers there is no creditsd (status {status})")
    line = f"{state}: {problem}" if problem else state
    return Answer(status == 200, line, str(said.get("version", "")))
