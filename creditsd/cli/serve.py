"""`creditsd serve`: reads and streams without a database."""

from __future__ import annotations

from creditsd.cli.console import finish, invocation
from creditsd.config import log, reload


def serve() -> None:
    """Serve reads and streams over HTTP from what a daemon publishes to Redis or NATS. Needs no database.

    Run as many as there are streams for, behind a load balancer. CREDITSD_SERVE__FEED is the url of the sink; who may
    ask is set as for `run`: CREDITSD_HTTP__API_KEYS, CREDITSD_HTTP__JWT_SECRET or CREDITSD_HTTP__JWKS_URL. SIGHUP has
    it read them anew.
    """
    reload.hold_back()
    from creditsd.gateway.app import Gateway

    settings = invocation.settings()
    with log.unblocked():
        finish(Gateway(settings, read=invocation.read).run(), raising=True)
