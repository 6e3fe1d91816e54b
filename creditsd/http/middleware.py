"""What every request passes through: the rate limit of its address, CORS, and errors as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import DatabaseUnavailable, InputError, RowsError, SchemaError, SinkUnavailable
from creditsd.http.allowed_origins import AllowedOrigins
from creditsd.http.auth import Auth
from creditsd.http.client_ip import TrustedProxies
from creditsd.http.errors import RequestRefused, error_response, nothing_at
from creditsd.http.hub import Closing
from creditsd.http.rate_limit import RateLimit
from creditsd.http.tcp import NOT_EXPECTED
from creditsd.metrics.counters import HttpMetrics

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

UNLIMITED = ("/livez", "/readyz", "/metrics")  # a probe that is refused restarts the process
RETRY_SECONDS = 2.0
PREFLIGHT_SECONDS = 600
_UNREADABLE = "the body cannot be read: it is not as its headers say"
ASKED_HEADERS = "Authorization, X-API-Key, Last-Event-ID, Prefer, Cache-Control, Content-Type"


class Middleware:
    """Limits, counts and marks every request and answer."""

    def __init__(self, settings: HttpSettings, metrics: HttpMetrics, auth: Auth) -> None:
        self._auth = auth
        self._metrics = metrics
        self._buckets = RateLimit(settings.requests_per_second_per_address)
        self.follow(settings)

    def follow(self, settings: HttpSettings) -> None:
        """Take other origins, proxies and limits."""
        self._proxies = TrustedProxies(settings.trusted_proxies, settings.trusted_header)
        self._buckets.limit(settings.requests_per_second_per_address)
        self._origins = AllowedOrigins(settings.cors_origins)

    def attach(self, application: web.Application) -> None:
        """Add it to an application."""
        application.middlewares.append(self._receive)
        application.on_response_prepare.append(self._mark)

    @web.middleware
    async def _receive(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        status = 500
        try:
            response = await self._answered(request, handler)
            status = response.status
            return response
        finally:
            resource = request.match_info.route.resource
            self._metrics.answers.labels(resource.canonical if resource else "none", status).inc()

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await self._passed(request, handler)
        except RequestRefused as refused:
            return refused.response()
        except web.HTTPException as error:
            return _in_json(request, error)
        except (InputError, web.RequestPayloadError) as error:
            return error_response(400, str(error) if isinstance(error, InputError) else _UNREADABLE)
        except RowsError as error:
            log.warning("live.unsummed", reason=str(error))
            return error_response(500, "this user's credits cannot be summed up: see creditsd's log")
        except (Closing, DatabaseUnavailable, SchemaError, SinkUnavailable) as error:
            log.debug("live.unanswered", reason=str(error))
            return RequestRefused.later(503, "this cannot be told at the moment: try again", RETRY_SECONDS).response()

    async def _passed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._limit(request)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return self._preflight(request)
        return await handler(request)

    def _limit(self, request: web.Request) -> None:
        if request.path in UNLIMITED or self._auth.is_server(request):  # which has a limit of its own
            return
        wait = self._buckets.take(self._proxies.client(request))
        if wait:
            self._metrics.limited.labels("address").inc()
            raise RequestRefused.later(429, "too many requests from this address: slow down", wait)

    def _preflight(self, request: web.Request) -> web.Response:
        """Answer a CORS preflight; the allowed origin itself is in every answer."""
        if not self._allows(request):
            return error_response(403, "pages of this origin may not ask here: add it to http.cors_origins")
        headers = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
            "Access-Control-Allow-Headers": ASKED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        return web.Response(status=204, headers=headers)

    def _allows(self, request: web.Request) -> bool:
        return self._origins.allows(request.headers.get("Origin", ""))

    async def _mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers of every answer. No cookie opens anything here, so CORS credentials need not be allowed."""
        headers = response.headers
        if isinstance(response, web.HTTPExpectationFailed):  # which is raised before anything of ours is asked
            response.body = error_response(417, NOT_EXPECTED).body
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(response.body or b""))
        headers["Server"] = "creditsd"  # and not which versions of what
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        if not self._origins:
            return
        headers.add("Vary", "Origin")
        if "Origin" in request.headers and self._allows(request):
            origin = "*" if self._origins.everyone else request.headers["Origin"]
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"


def _in_json(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Turn the router's own errors into JSON; leave redirects as they are."""
    if error.status < 400:
        return error
    if error.status == 404:
        line = nothing_at(request.path)
    elif error.status == 413:
        line = f"a body has {request.client_max_size} bytes at most"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        line = f"{request.method[:20]} is not for this address: {', '.join(sorted(error.allowed_methods))}"
    else:
        line = error.reason
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_response(error.status, line, headers)
