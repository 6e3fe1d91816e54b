"""Requests nobody in their right mind would send, made of what `/openapi.json` describes, and how each is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st
from multidict import CIMultiDict

from tests.http.asking import KEY, ONE, Answer, token
from tests.http.described import Described

DESCRIBED = Described()
STREAM = b"text/event-stream"

_BYTES = st.binary(max_size=30)
_TEXT = st.text(max_size=30)
_NUMBERS = st.one_of(st.integers(), st.sampled_from([0, 1, 100, 101, 2**63 - 1, 2**63, 10**19, 10**400]))
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)
# Of a header's value aiohttp's parser refuses these by itself.
_VALUES = st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0"))
_HEADERS: Mapping[bytes, st.SearchStrategy[bytes]] = {
    b"Accept": st.builds(
        b"%b; version=%b; q=%b".__mod__,
        st.tuples(st.sampled_from([b"application/openmetrics-text", b"text/plain", b"*/*"]), _VALUES, _VALUES),
    ),
    b"Content-Encoding": st.sampled_from([b"gzip", b"deflate", b"br", b"zstd", b"identity", b"x"]),
    b"Content-Type": st.sampled_from([b"application/json", b"multipart/form-data", b"text/plain; charset=x"]),
    b"Last-Event-ID": _NUMBERS.map(lambda number: b"%d" % number),
    b"Prefer": _NUMBERS.map(lambda number: b"wait=%d" % number),
    b"If-None-Match": st.sampled_from([b"*", b'W/"x", "y"', b",,,", b'"']),
    b"Origin": st.sampled_from([b"null", b"*", b"https://app.example.com"]),
    b"Expect": st.sampled_from([b"100-continue", b"tea"]),
    b"Forwarded": st.sampled_from([b'for="[::1]:x";by=_', b'for="', b"for=1.2.3.4, for=unknown"]),
    b"X-Forwarded-For": st.sampled_from([b"1.2.3.4, x", b"::1", b",,"]),
    b"X-API-Key": st.sampled_from([b"", KEY.encode()]),
    b"Range": st.sampled_from([b"bytes=0-1", b"bytes=9-1", b"x"]),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: the operation it is of, and its bytes."""

    method: str
    path: str
    sent: bytes


@st.composite
def requests(draw: st.DrawFn, operations: Sequence[tuple[str, str]], keys: Sequence[str] = ()) -> Asked:
    """Make a request of an operation that is described: whatever for its parameters, headers and body."""
    method, path = draw(st.sampled_from(operations))
    described = DESCRIBED.document["paths"][path][method.lower()]
    target, query = path, []
    for each in map(DESCRIBED.followed, described.get("parameters", ())):
        if each["in"] == "path":
            target = target.replace(f"{{{each['name']}}}", _segment(draw))
        elif each["in"] == "query" and draw(st.booleans()):
            values = draw(st.lists(_NUMBERS.map(str) | _TEXT, min_size=1, max_size=2))
            query += [f"{each['name']}={quote_from_bytes(value.encode(errors='surrogatepass'))}" for value in values]
    lines = [f"{method} {target}{'?' if query else ''}{'&'.join(query)} HTTP/1.1".encode(), b"Host: x"]
    credential = draw(st.sampled_from([KEY, *keys, token(), token(seconds=-100), ""]) | _TEXT)
    lines.append(b"Authorization: Bearer " + credential.encode(errors="surrogatepass").translate(None, b"\r\n\0"))
    names = draw(st.lists(st.sampled_from([*_HEADERS]), max_size=2, unique=True))
    lines += [name + b": " + draw(_HEADERS[name] | _VALUES) for name in names]
    body = draw(_bodies(described)) if method == "POST" or draw(st.integers(0, 9)) == 0 else b""
    lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
    return Asked(method, path, b"\r\n".join(lines))


def _segment(draw: st.DrawFn) -> str:
    found = draw(st.just(ONE.encode()) | _BYTES | _TEXT.map(lambda text: text.encode(errors="surrogatepass")))
    return quote_from_bytes(found, safe="") or "x"


def _bodies(described: Mapping[str, Any]) -> st.SearchStrategy[bytes]:
    """Bodies by the names that the document gives their parts, and such as are no JSON."""
    content = described.get("requestBody", {}).get("content", {})
    schema = DESCRIBED.followed(content["application/json"]["schema"]) if content else {}
    names = st.sampled_from([*schema.get("properties", {"x": None})])
    values = _ANYTHING | st.sampled_from(["memory", ONE]) | st.lists(st.just(ONE) | _TEXT, max_size=3)
    documents = st.dictionaries(names, values, max_size=3) | _ANYTHING
    deep = st.sampled_from([b"[" * 2000, b'{"user_ids":' * 2000, b'{"user_ids":["\\ud800"]}', b'{"sink":"\\u0000"}'])
    return documents.map(lambda value: json.dumps(value).encode()) | _BYTES | deep


async def answered(port: int, asked: Asked) -> Answer:
    """Send a request, and read the answer; of a stream its head alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(asked.sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 100 "):
                head = await reader.readuntil(b"\r\n\r\n")
            body = b"" if STREAM in head else await reader.read()
    finally:
        writer.close()
    status, *lines = head.decode().splitlines()
    headers = CIMultiDict[str]()
    for name, _, value in (line.partition(": ") for line in lines if line):
        headers.add(name, value)
    is_json = headers.get("Content-Type") == "application/json" and body
    return Answer(int(status.split()[1]), json.loads(body) if is_json else body.decode(), headers)


def holds(asked: Asked, answer: Answer, *, may_fail: Sequence[int] = ()) -> None:
    """See that an answer is one that the document describes, and that an error is one line that can be printed."""
    assert answer.status < 500 or answer.status in may_fail, answer
    assert answer.headers["Server"] == "creditsd"
    if answer.status >= 400:
        assert answer.error.isprintable(), answer
    if answer.status == 404 and "there is nothing at" in answer.error:
        return  # what stands for a parameter made it the path of something else
    if answer.status == 400 and answer.error == "this is no HTTP request that can be read":
        return
    DESCRIBED.holds(answer, asked.path, asked.method)
