"""What a verified token says of its user, and of the application it was given to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from creditsd.http.errors import RequestRefused


def user_id(claims: Mapping[str, Any], path: Sequence[str]) -> str:
    """Return the id at the end of a path, as it is written there. Raises RequestRefused where there is none."""
    found: Any = claims
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    name = ".".join(path)
    if found is None:
        raise _refused(missing(name))
    written = text(found)
    if not written:
        raise _refused(f"the token's claim {name} is no user's id: it must be text or a whole number")
    return written


def text(claim: Any) -> str:
    """Return an id as text: a string as it is, and a whole number; what is neither is empty."""
    if isinstance(claim, str):
        return claim
    return str(claim) if isinstance(claim, int) and not isinstance(claim, bool) else ""


def check_party(claims: Mapping[str, Any], parties: Collection[str]) -> None:
    """Raise RequestRefused for a token that was given to another application; without parties any may ask."""
    if not parties:
        return
    party = claims.get("azp")
    if party is None:
        raise _refused(missing("azp"))
    if party not in parties:
        raise _refused("the token has the wrong authorized party: its azp is none of http.jwt_authorized_parties")


def missing(claim: str) -> str:
    """Say that a token lacks a claim."""
    return f"the token has no claim {claim}"


def _refused(line: str) -> RequestRefused:
    return RequestRefused.unauthorized(line, "invalid_token")
