"""Supabase Realtime Broadcast: each total on the private topic of its user, by way of the database or of HTTP."""

from __future__ import annotations

import base64
import binascii
import contextlib
import ssl
from typing import Any

import orjson
import psycopg
import yarl
from psycopg.conninfo import conninfo_to_dict

from creditsd.brokers import tls
from creditsd.domain.errors import ConfigError
from creditsd.sinks.supabase.database import ByDatabase
from creditsd.sinks.supabase.http import ByHttp
from creditsd.sinks.supabase.options import Options

__all__ = ["Options", "create"]


def create(name: str, url: str, options: Options) -> ByDatabase | ByHttp:
    """Make the sink for a `supabase:` url, the database's, or `supabase+https:`, the project's. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    transport = scheme.lower().removeprefix("supabase").removeprefix("+")
    if transport in ("https", "http"):
        return ByHttp(name, _project(name, f"{transport}:{rest}"), options, _checked(name, options))
    if transport:
        raise ConfigError(f"sink {name}: {scheme} is not supported: use supabase, supabase+https or supabase+http")
    if options.key or options.ca:
        raise ConfigError(f"sink {name}: key and ca_file go with supabase+https; a database is given all in its url")
    dsn = f"postgresql:{rest}"
    with contextlib.suppress(psycopg.ProgrammingError, ValueError):  # its own text would quote the password
        if conninfo_to_dict(dsn).get("host"):
            return ByDatabase(name, dsn, options)
    raise ConfigError(
        f"sink {name}: the url is not supabase://user:password@host:5432/postgres; special characters in the password "
        "must be percent-encoded"
    )


def _project(name: str, url: str) -> yarl.URL:
    with contextlib.suppress(ValueError):  # its text would quote the url
        project = yarl.URL(url)
        if project.host and project.port and not (project.raw_user or project.raw_query_string or project.fragment):
            return project
    raise ConfigError(f"sink {name}: the url is not supabase+https://PROJECT.supabase.co")


def _checked(name: str, options: Options) -> ssl.SSLContext | None:
    """Check what goes with HTTP, and load the certificates that are trusted in place of the system's, if any."""
    key = options.key
    if not key:
        raise ConfigError(f"sink {name}: key is missing: the secret key of the project (sb_secret_… or service_role)")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"sink {name}: key is not a key: it holds blanks, or letters that no key has")
    if key.startswith("sb_publishable_") or _role(key) in ("anon", "authenticated"):
        # It would be answered 202, and nothing sent: who may write to a private topic is asked for each message.
        raise ConfigError(f"sink {name}: key is the public one: private topics need sb_secret_… or service_role")
    return tls.wanted(f"sink {name}", options.ca)


def _role(key: str) -> Any:
    """Return the role a key claims, where it is a JWT; unverified."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (binascii.Error, ValueError):
        return None
    return claims.get("role") if isinstance(claims, dict) else None
