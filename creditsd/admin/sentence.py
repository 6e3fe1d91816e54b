"""The one sentence that says how all is, the same in `creditsd status` and on the operator's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

NAMED = 3  # so many sinks are told of by name


class SaidSink(Protocol):
    """What the sentence says of a sink."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def state(self) -> str:
        """How it is, in a word."""

    @property
    def said(self) -> str:
        """How it is, in words."""

    @property
    def hint(self) -> str:
        """The command that helps."""


class SaidProblem(Protocol):
    """What the sentence says of users that are set aside."""

    @property
    def users(self) -> int:
        """How many they are."""

    @property
    def one(self) -> str:
        """One of them."""


def sentence(
    *,
    mend: str = "",
    role: str = "",
    sinks: Sequence[SaidSink] = (),
    set_aside: Sequence[SaidProblem] = (),
    polling: bool = False,
) -> str:
    """Say what somebody must mend, else what is not as it should be, else that all is well.

    `role` says what is done instead of leading, if so.
    """
    if mend:
        return f"Somebody must mend this: {mend.rstrip('.')}."
    amiss = [*_of_sinks(sinks), *_of_users(set_aside)]
    if role or amiss:
        return " ".join([role, *amiss]).strip()
    if not sinks:
        return "No sink is configured: only reads and streams are answered."
    if polling:
        return "All has arrived. The bell does not come through, so the daemon polls."
    return "All is well: what is stored has arrived everywhere."


def _of_sinks(sinks: Sequence[SaidSink]) -> list[str]:
    amiss = [each for each in sinks if each.state != "current"]
    said = [f"{each.name}: {each.said}{f' ({each.hint})' if each.hint else ''}." for each in amiss[:NAMED]]
    if len(amiss) > NAMED:
        said.append(f"And {len(amiss) - NAMED} more of {len(sinks)} sinks: creditsd sinks list.")
    return said


def _of_users(set_aside: Sequence[SaidProblem]) -> list[str]:
    users = sum(each.users for each in set_aside)
    if not users:
        return []
    who = "1 user is" if users == 1 else f"{users} users are"
    return [f"{who} set aside (creditsd explain {set_aside[0].one})."]
