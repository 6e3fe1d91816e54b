"""How many connections a daemon opens at most, by what it does with them."""

from __future__ import annotations

from creditsd.config.settings import Settings

PUBLISHER = 4
READER = 4
OPERATOR = 2
LEADER = 1
DOORBELL = 2  # one that listens, one that holds the lock while the daemon sleeps


def connections_needed(settings: Settings) -> int:
    """Return how many connections one daemon with these settings opens at most."""
    doorbell = DOORBELL if settings.wakeup == "doorbell" else 0
    sinks = sum(each.scheme == "supabase" for each in settings.sinks)  # each a connection, mostly to this server
    return sinks + PUBLISHER + READER + OPERATOR + LEADER + doorbell
