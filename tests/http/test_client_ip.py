"""Whose address a request counts for, behind proxies of every make."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from pydantic import ValidationError

from creditsd.config.http_settings import HttpSettings
from creditsd.http.client_ip import TrustedProxies
from tests.http.asking import Shelf, served

OURS = ["10.0.0.0/8", "fd00::/8", "127.0.0.0/8"]
CLIENT, SPOOFED, CLOUDFLARE = "203.0.113.7", "6.6.6.6", "172.64.0.9"
XFF, FORWARDED = "X-Forwarded-For", "Forwarded"


def resolved(
    *lines: str, header: str = XFF, sent_as: str = "", trusted: list[str] = OURS, remote: str = "10.0.0.1"
) -> str:
    """Resolve a request that came from a proxy with these lines of a header."""
    headers = CIMultiDict([(sent_as or header, line) for line in lines])
    request = make_mocked_request("GET", "/", headers).clone(remote=remote)
    return TrustedProxies(trusted, header).client(request)


SENT = {
    "nginx, $proxy_add_x_forwarded_for": ([CLIENT], CLIENT),
    "nginx, behind what the client sent": ([f"{SPOOFED}, {CLIENT}"], CLIENT),
    "nginx, of IPv6": (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
    "nginx, over a unix socket": (["unix:"], "unknown"),
    "nginx behind nginx": ([f"{SPOOFED}, {CLIENT}, 10.0.0.2"], CLIENT),
    "Caddy, which replaces what it does not trust": ([CLIENT], CLIENT),
    "HAProxy, option forwardfor: a line of its own": ([SPOOFED, CLIENT], CLIENT),
    "HAProxy behind HAProxy": ([f"{SPOOFED}, 7.7.7.7", CLIENT, "10.0.0.2"], CLIENT),
    "Azure Application Gateway: with ports": ([f"{CLIENT}:50123"], CLIENT),
    "Azure, behind what the client sent": ([f"{SPOOFED}:80, {CLIENT}:50123"], CLIENT),
    "Azure Front Door behind it": ([f"{CLIENT}, 10.4.0.9:443"], CLIENT),
    "AWS ALB, append": ([f"{SPOOFED}, {CLIENT}"], CLIENT),
    "AWS ALB, with the client's port": ([f"{CLIENT}:4711"], CLIENT),
    "AWS ALB, of IPv6, with the client's port": (["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
    "AWS ALB, of IPv6, in brackets": (["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
    "AWS ALB, preserve: what the client sent, which is why its own trust ends here": ([SPOOFED], SPOOFED),
    "Cloudflare in front of ours, not trusted": ([f"{CLIENT},{CLOUDFLARE}"], CLOUDFLARE),
    "an IPv4 address in the clothes of IPv6": (["::ffff:203.0.113.7"], CLIENT),
    "the same, in brackets, with a port": (["[::ffff:203.0.113.7]:443"], CLIENT),
    "a link-local address with its zone": (["fe80::1%eth0"], "fe80::/64"),
    "empty hops": ([f" , {CLIENT}, ,", ""], CLIENT),
    "nothing but empty hops": (["", " , "], "10.0.0.1"),
    "no header": ([], "10.0.0.1"),
    "proxies alone": (["10.9.9.9, 10.0.0.2"], "10.9.9.9"),
}


@pytest.mark.parametrize("name", SENT)
def test_the_client_is_who_the_proxies_say(name: str) -> None:
    lines, client = SENT[name]
    assert resolved(*lines) == client


def test_cloudflare_is_passed_where_its_networks_are_trusted() -> None:
    assert resolved(f"{SPOOFED},{CLIENT},{CLOUDFLARE}", trusted=[*OURS, "172.64.0.0/13"]) == CLIENT


BROKEN = [
    "unknown",
    "_hidden",
    "203.0.113.7:",
    "203.0.113.7:x",
    "[203.0.113.7",
    "203.0.113.7]",
    "[]",
    "[]:80",
    "[::1]x",
    "1.2.3",
    "::1::",
    "'1.2.3.4'",
]


@pytest.mark.parametrize("hop", BROKEN)
def test_a_hop_that_is_no_address_is_nobody_and_what_stands_before_it_is_not_believed(hop: str) -> None:
    assert resolved(f"{SPOOFED}, {hop}") == "unknown"


RFC_7239 = {
    "HAProxy, option forwarded": ([f"proto=https;for={CLIENT}"], CLIENT),
    "HAProxy, for its IPv6 clients": (['for="[2001:db8:1:2:3::4]"'], "2001:db8:1:2::/64"),
    "HAProxy, with ports": ([f'proto=http;host="a.example.com:80";by="10.0.0.1:80";for="{CLIENT}:4711"'], CLIENT),
    "the RFC's own": (['For="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::/64"),
    "several hops": ([f"for={SPOOFED}, for={CLIENT};by=10.0.0.3 , for=10.0.0.2"], CLIENT),
    "several lines": ([f"for={SPOOFED}", f"for={CLIENT}"], CLIENT),
    "a name for the port": ([f'for="{CLIENT}:_gw-1"'], CLIENT),
    "an escaped letter": (['for="203.0.113.\\7"'], CLIENT),
    "commas and semicolons in quotes": ([f'for={SPOOFED}, host="a,b;for=7.7.7.7";for={CLIENT}'], CLIENT),
    "empty elements, and an empty pair": ([f",, for={CLIENT}; ,"], CLIENT),
    "a quote the client left open": ([f'for="{SPOOFED}, for={CLIENT}'], CLIENT),
    "a quote the client left open, before one of ours": ([f'for="x, for="{CLIENT}:80"'], CLIENT),
    "a quote and an escape the client left open": ([f'for="x\\, for="{CLIENT}:80"'], CLIENT),
    "garbage of the client's": ([f"{SPOOFED};;=, for={CLIENT}"], CLIENT),
    "nobody": ([f"for={SPOOFED}, for=unknown"], "unknown"),
    "somebody hidden": ([f'for={SPOOFED}, for="_hidden"'], "unknown"),
    "no for": ([f"for={SPOOFED}, proto=https"], "unknown"),
    "two of them": ([f"for={SPOOFED};for={CLIENT}"], "unknown"),
    "an address of IPv6 without its quotes": ([f"for={SPOOFED}, for=[2001:db8::1]"], "unknown"),
    "nothing": ([], "10.0.0.1"),
}


@pytest.mark.parametrize("name", RFC_7239)
def test_the_client_is_who_a_forwarded_header_says(name: str) -> None:
    lines, client = RFC_7239[name]
    assert resolved(*lines, header=FORWARDED) == client


@pytest.mark.parametrize(("believed", "other", "line"), [(XFF, FORWARDED, f"for={SPOOFED}"), (FORWARDED, XFF, SPOOFED)])
def test_the_other_header_is_a_clients_own_and_not_believed(believed: str, other: str, line: str) -> None:
    assert resolved(line, header=believed, sent_as=other) == "10.0.0.1"


@pytest.mark.parametrize(("header", "line"), [(XFF, SPOOFED), (FORWARDED, f"for={SPOOFED}")])
@pytest.mark.parametrize(("remote", "client"), [("198.51.100.2", "198.51.100.2"), ("2001:db8::1", "2001:db8::/64")])
def test_who_is_no_proxy_of_ours_says_nothing_of_anybody(header: str, line: str, remote: str, client: str) -> None:
    assert resolved(line, header=header, remote=remote) == client
    assert resolved(line, header=header, remote=remote, trusted=[]) == client


@pytest.mark.parametrize("header", [XFF, FORWARDED])
@pytest.mark.parametrize("text", [",", '"', 'for="', "for=a,", "\\", ";", 'a="\\'])
def test_eight_kilobytes_of_nonsense_are_read_at_once(header: str, text: str) -> None:
    noise = (text * 8000)[:8000]
    plain = CLIENT if header == XFF else f"for={CLIENT}"
    assert resolved(f"{noise}, {plain}", header=header) == CLIENT
    assert resolved(noise, header=header) in ("unknown", "10.0.0.1")


async def test_one_address_is_one_client_whatever_its_port() -> None:
    settings: dict[str, Any] = {"requests_per_second_per_address": 1, "trusted_proxies": ["127.0.0.0/8"]}
    async with served(Shelf(), **settings) as (_, client):
        statuses = [
            (await client.get("/v1/me/credits", X_Forwarded_For=f"{CLIENT}:{4000 + number}")).status
            for number in range(10)
        ]
        assert 429 in statuses
        assert (await client.get("/v1/me/credits", X_Forwarded_For="203.0.113.8:4000")).status == 401
    async with served(Shelf(), trusted_header="Forwarded", **settings) as (_, client):
        for number in range(10):
            assert (await client.get("/v1/me/credits", Forwarded=f'for="203.0.113.{number}:1"')).status == 401
        spoofed = [await client.get("/v1/me/credits", X_Forwarded_For=f"9.9.9.{number}") for number in range(10)]
        assert 429 in [each.status for each in spoofed]


@pytest.mark.parametrize("header", ["", "forwarded", "CF-Connecting-IP", "X-Real-IP"])
def test_a_header_that_is_not_read_is_refused(header: str) -> None:
    with pytest.raises(ValidationError, match="'X-Forwarded-For' or 'Forwarded'"):
        HttpSettings.model_validate({"trusted_header": header})
