from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks.webhook.ssrf_guard import is_inside
from tests.sinks.harness import total
from tests.sinks.webhook_harness import Receiver, always, opened


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0",
        "2130706433", "127.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    ],
)  # fmt: skip
async def test_loopback_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    async with opened(receiver, allow_cidrs=[], host=host) as sink:
        with pytest.raises(SinkUnavailable, match=r"allow_cidrs|not a canonical IPv4 address"):
            await sink.deliver([total()])
    assert receiver.deliveries == []


async def test_a_name_that_resolves_anew_to_an_inside_address_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers another address the second time: the check is on the one connected to."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def rebinding(host: Any, port: Any, **hints: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1", port, **hints)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    async with opened(receiver, allow_cidrs=["203.0.113.0/24"], host="hooks.example") as sink:
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1 is not a public address"):
            await sink.deliver([total()])
    assert asked == ["hooks.example"]
    assert receiver.deliveries == []


async def test_a_listed_network_is_allowed_and_its_neighbour_is_not(receiver: Receiver) -> None:
    async with opened(receiver, allow_cidrs=["127.0.0.1/32"]) as sink:
        assert list(await sink.deliver([total()])) == []
    async with opened(receiver, allow_cidrs=["127.0.0.2/32"]) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.deliver([total()])


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "203.0.113.9", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:db8::1",
        "::127.0.0.1", "fec0::1", "::ffff:0:10.0.0.1", "64:ff9b:1::a9fe:a9fe", "2001:0:5ef5:79fd::1",
        "2606:4700::5efe:a00:1", "192.88.99.1", "3fff::1", "5f00::1", "100::1",
    ],
)  # fmt: skip
def test_an_address_of_the_inside_is_known_as_such(address: str) -> None:
    assert is_inside(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_an_address_of_the_public_internet_is_not_refused(address: str) -> None:
    assert not is_inside(ipaddress.ip_address(address))


async def test_of_several_addresses_only_the_public_or_allowed_ones_are_tried(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def both(host: Any, port: Any, **hints: Any) -> Any:
        addresses = ("169.254.169.254", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", both)
    async with opened(receiver, allow_cidrs=["127.0.0.1/32"], host="hooks.example") as sink:
        assert list(await sink.deliver([total()])) == []
    assert len(receiver.deliveries) == 1


async def test_a_redirect_to_the_metadata_address_is_a_refusal(receiver: Receiver) -> None:
    receiver.answer = always(307, Location="http://169.254.169.254/latest/meta-data/")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.reason == "answered 307: redirects are not followed: set the url it leads to"
    assert len(receiver.deliveries) == 1
