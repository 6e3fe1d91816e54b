"""What a section of the settings is, and what one setting may be: where it is not, each type says what is allowed."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_UNQUOTED = r"[^\W\d][\w$]*"
_QUOTED = r'"(?:[^"\0]|"")+"'
_RELATION = re.compile(rf"(?:({_UNQUOTED}|{_QUOTED})\s*\.\s*)?({_UNQUOTED}|{_QUOTED})")
_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_LABEL = "[a-z0-9_-]+"
_WILD_ORIGIN = re.compile(
    rf"[a-z][a-z0-9+.-]*://(?:{_LABEL}\.)*[a-z0-9_-]*\*[a-z0-9_-]*\.({_LABEL}(?:\.{_LABEL})*)(?::[0-9]{{1,5}})?"
)
_NO_USER = frozenset({"iss", "aud", "azp", "exp", "nbf", "iat", "jti"})  # of the registered claims
_CONDITION_CHARACTERS = 10_000
_NAME_BYTES = 63  # PostgreSQL cuts longer names off, silently
DEFAULT_SCHEMA = "creditsd"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,44}")  # what it names beside itself has two words more
# Nobody's to give away, or the end of a name that an installation gives to a channel of its own.
_TAKEN = re.compile(r"pg_.*|information_schema|public|.*_(lead|doctor|bench)")
# What PostgreSQL reads as a word of SQL or PL/pgSQL where a name would have to stand in quotes.
_RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization begin between bigint binary bit boolean both
    by case cast char character check coalesce collate collation column concurrently constraint create cross
    current_catalog current_date current_role current_schema current_time current_timestamp current_user dec decimal
    declare default deferrable desc distinct do else end except execute exists extract false fetch float for foreach
    foreign freeze from full grant greatest group grouping having if ilike in initially inner inout int integer
    intersect interval into is isnull join json json_array json_arrayagg json_exists json_object json_objectagg
    json_query json_scalar json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp loop merge_action national natural nchar none normalize not notnull null nullif numeric offset on
    only or order out outer overlaps overlay placing position precision primary real references returning right row
    select session_user setof similar smallint some strict substring symmetric system_user table tablesample then
    time timestamp to trailing treat trim true union unique user using values varchar variadic verbose when where
    while window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
    xmlserialize xmltable
    """.split()  # noqa: SIM905 - two hundred strings would fill a page
)


def parse_relation(text: str) -> tuple[str, str]:
    """Split a table's name as written in SQL into (schema, name); without a schema it is `public`."""
    match = _RELATION.fullmatch(text.strip())
    if match is None:
        raise ValueError('must be table or schema.table, each part plain or "quoted"')
    return _identifier(_unquote(match[1] or "public")), _identifier(_unquote(match[2]))


def _unquote(part: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return part.translate(_UPPER_TO_LOWER)


def _identifier(name: str) -> str:
    if "\0" in name or len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"must be a name of at most {_NAME_BYTES} bytes")
    return name


def _relation(text: str) -> str:
    parse_relation(text)
    return text


def _schema_name(text: str) -> str:
    if _SCHEMA.fullmatch(text) is None or text in _RESERVED:
        raise ValueError("must be small letters, digits and _, at most 45, and no word of SQL: e.g. creditsd_images")
    if _TAKEN.fullmatch(text) is not None:
        raise ValueError("is taken by PostgreSQL or by creditsd itself: choose another name, e.g. creditsd_images")
    return text


def parse_claim(text: str) -> tuple[str, ...]:
    """Split the name of a token's claim into the steps that lead to it: each dot leads into an object.

    A claim that is called like a URL, as services call those of their own, is one step with its dots.
    """
    path = (text,) if "://" in text else tuple(text.split("."))
    if "\0" in text or any(not each or each != each.strip() for each in path):
        raise ValueError("must be the name of a claim, e.g. sub, org_id, app_metadata.org or https://example.com/org")
    if text in _NO_USER:
        raise ValueError(f"names no user: {text} says something else of a token")
    return path


def _claim(text: str) -> str:
    parse_claim(text)
    return text


def _conninfo(text: str) -> str:
    try:
        conninfo_to_dict(text)
    except (psycopg.ProgrammingError, ValueError):  # its own text would quote the password
        raise ValueError(
            "must be a libpq string (host=… dbname=…) or a URL (postgresql://…), special characters escaped"
        ) from None
    return text


def _listen(text: str) -> str:
    if text:
        _, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError("must be host:port, or empty for off")
    return text


def _http_url(text: str) -> str:
    if text and not (text.startswith(("https://", "http://")) and _names_server(text)):
        raise ValueError("must be an https:// or http:// URL, or empty")
    return text


def _names_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url.split() == [url] and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of brackets that do not close, and of a port that is none
        return False


def _api_key(text: str) -> str:
    if text.startswith("sha256:") and re.fullmatch(r"sha256:[0-9a-fA-F]{64}", text) is None:
        raise ValueError("after sha256: must come the 64 hexadecimal digits of the key's digest")
    return text


def key_digest(key: str) -> bytes:
    """Return the SHA-256 digest of a configured key, which may itself be written as `sha256:…`."""
    if key.startswith("sha256:"):
        return bytes.fromhex(key.removeprefix("sha256:"))
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _origin(text: str) -> str:
    if "*" in text and text != "*":
        return _wild_origin(text)
    if text != "*" and re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s*]+", text) is None:
        raise ValueError("must be an origin as browsers send it, e.g. https://app.example.com, or *")
    return text


def _wild_origin(text: str) -> str:
    """Check an origin with a `*`: only people who may name hosts below a domain of yours are to gain by it."""
    written = _WILD_ORIGIN.fullmatch(text)
    if written is None:
        raise ValueError("may have one * inside one label of its host, in small letters: https://*.preview.example.com")
    domain = written[1]
    if "." not in domain or domain.rpartition(".")[2].isdigit():
        raise ValueError("needs a domain of your own, of two labels or more, behind the one with the *")
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("must be an address or a network, e.g. 10.0.0.0/8") from None


def _sink_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text) is None:
        raise ValueError("must be letters, digits, _ . and -, at most 63 of them")
    return text


def _sink_url(text: str) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*(:|$)", text) is None:
        raise ValueError("must start with the scheme of a sink, e.g. redis://localhost:6379/0")
    return text


def _feed_url(text: str) -> str:
    if text and re.match(r"[a-z][a-z0-9+.-]*://", text) is None:
        raise ValueError("must be a url, e.g. redis://localhost:6379/0")
    return text


def _condition(text: str) -> str:
    if "\0" in text or len(text) > _CONDITION_CHARACTERS:
        raise ValueError(f"must be a condition in SQL of at most {_CONDITION_CHARACTERS} characters")
    return text.strip()


class Section(BaseModel):
    """A section of the settings: it takes no key it does not know, never changes, and quotes nothing it was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Column = Annotated[str, Field(min_length=1), AfterValidator(_identifier)]
ColumnOrNone = Annotated[str, AfterValidator(_identifier)]
Condition = Annotated[str, AfterValidator(_condition)]
Dsn = Annotated[str, Field(repr=False), AfterValidator(_conninfo)]
Credits = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Word = Annotated[str, Field(min_length=1)]
ApiKey = Annotated[str, Field(min_length=1), AfterValidator(_api_key)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]
Claim = Annotated[str, AfterValidator(_claim)]
Relation = Annotated[str, AfterValidator(_relation)]
SchemaName = Annotated[str, AfterValidator(_schema_name)]
Listen = Annotated[str, AfterValidator(_listen)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
SinkName = Annotated[str, AfterValidator(_sink_name)]
SinkUrl = Annotated[str, Field(repr=False), AfterValidator(_sink_url)]
FeedUrl = Annotated[str, Field(repr=False), AfterValidator(_feed_url)]
