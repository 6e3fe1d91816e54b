from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError
from structlog.testing import capture_logs

from creditsd.config.settings import SinkSettings, load
from creditsd.domain.errors import ConfigError
from creditsd.sinks import make
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_harness import KEY, SECRET, Delivery, Receiver, opened

OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()

SEED = bytes(range(32))
PAIR = Ed25519PrivateKey.from_private_bytes(SEED)
PRIVATE = "whsk_" + base64.b64encode(SEED).decode()
BOTH_HALVES = "whsk_" + base64.b64encode(SEED + PAIR.public_key().public_bytes_raw()).decode()
PUBLIC = "whpk_" + base64.b64encode(PAIR.public_key().public_bytes_raw()).decode()


def verify_with_public_key(delivery: Delivery, public: str = PUBLIC) -> None:
    """Verify as the specification says a receiver does: one of the signatures must fit."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    signed = f"{delivery.headers['webhook-id']}.{delivery.headers['webhook-timestamp']}.".encode() + delivery.body
    (signature,) = (
        each.removeprefix("v1a,")
        for each in delivery.headers["webhook-signature"].split(" ")
        if each.startswith("v1a,")
    )
    key.verify(base64.b64decode(signature, validate=True), signed)


async def test_the_official_verifier_accepts_what_arrives_and_nothing_changed(receiver: Receiver) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total("Zoë")])
    (delivery,) = receiver.deliveries
    delivery.verify()
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(delivery.body.replace(b"120", b"121"), delivery.headers)
    with pytest.raises(WebhookVerificationError):
        delivery.verify(OTHER)


async def test_during_a_rotation_either_secret_verifies(receiver: Receiver) -> None:
    async with opened(receiver, secret="", secrets=[SECRET, OTHER]) as sink:
        await sink.deliver([total()])
    (delivery,) = receiver.deliveries
    delivery.verify(SECRET)
    delivery.verify(OTHER)
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2


async def test_a_file_of_secrets_beside_the_configuration_signs_with_each(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "signing").write_text(f"{SECRET}\n{OTHER}\n")
    config = tmp_path / "creditsd.toml"
    config.write_text(
        f'[[sinks]]\nname = "billing"\nurl = "webhook+http://127.0.0.1:{receiver.port}/"\n'
        'secrets_file = "signing"\nallow_cidrs = ["127.0.0.0/8"]\n'
    )
    (settings,) = load(config).sinks
    sink = make(settings)
    await sink.open()
    try:
        await sink.deliver([total()])
    finally:
        await sink.close()
    (delivery,) = receiver.deliveries
    delivery.verify(SECRET)
    delivery.verify(OTHER)


async def test_a_file_of_secrets_has_one_a_line(receiver: Receiver) -> None:
    async with opened(receiver, secret="", secrets=f"{SECRET}\n\n  {OTHER}\r\n") as sink:
        await sink.deliver([total()])
    (delivery,) = receiver.deliveries
    delivery.verify(SECRET)
    delivery.verify(OTHER)


@pytest.mark.parametrize("written", [SECRET, KEY, KEY.rstrip("="), f" {SECRET}\n"])
async def test_a_secret_may_be_written_with_or_without_prefix_and_padding(receiver: Receiver, written: str) -> None:
    async with opened(receiver, secret=written) as sink:
        await sink.deliver([total()])
    receiver.deliveries[0].verify(SECRET)


async def test_the_id_is_stable_over_attempts_and_restarts_and_new_for_every_version(
    receiver: Receiver,
) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total()])
        await sink.deliver([total()])
        await sink.deliver([total(version=VERSION + 1)])
        await sink.deliver([total("u2")])
    async with opened(receiver) as sink:
        await sink.deliver([total()])
    first, again, newer, other, restarted = (each.headers["webhook-id"] for each in receiver.deliveries)
    assert first == again == restarted
    assert len({first, newer, other}) == 3


@pytest.mark.parametrize("written", [PRIVATE, PRIVATE.rstrip("="), BOTH_HALVES])
async def test_a_public_key_verifies_what_a_private_one_signed(receiver: Receiver, written: str) -> None:
    async with opened(receiver, secret=written) as sink:
        await sink.deliver([total("Zoë")])
    (delivery,) = receiver.deliveries
    verify_with_public_key(delivery)
    delivery.body = delivery.body.replace(b"120", b"121")
    with pytest.raises(InvalidSignature):
        verify_with_public_key(delivery)


async def test_a_rotation_may_go_from_a_shared_secret_to_a_key_pair(receiver: Receiver) -> None:
    async with opened(receiver, secret=SECRET, secrets=[PRIVATE, OTHER]) as sink:
        await sink.deliver([total()])
    (delivery,) = receiver.deliveries
    delivery.verify(SECRET)
    delivery.verify(OTHER)
    verify_with_public_key(delivery)
    kinds = [each.split(",")[0] for each in delivery.headers["webhook-signature"].split(" ")]
    assert kinds == ["v1", "v1a", "v1"]


async def test_the_public_key_is_told_when_the_sink_opens_and_the_private_one_never(receiver: Receiver) -> None:
    with capture_logs() as events:
        async with opened(receiver, secret=PRIVATE):
            pass
    assert [each["public_key"] for each in events if each["event"] == "webhook.signed_by"] == [PUBLIC]
    assert PRIVATE.removeprefix("whsk_") not in repr(events)


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (PUBLIC, "a public key, which signs nothing"),
        ("whsk_not base64!", "not whsk_ and base64"),
        ("whsk_aHVudGVyMg==", "not an ed25519 key of 32 or 64 bytes"),
        ("whsk_" + base64.b64encode(SEED + SEED).decode(), "two halves are not one ed25519 key pair"),
    ],
)
def test_a_key_that_cannot_sign_is_told_without_it(secret: str, says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="billing", url="webhook+https://h/x", options={"secret": secret}))
    assert says in str(failure.value)
    assert secret.removeprefix("whsk_").removeprefix("whpk_") not in str(failure.value)


def test_a_short_secret_is_warned_of() -> None:
    with capture_logs() as events:
        make(SinkSettings(name="billing", url="webhook+https://h/x", options={"secret": "c2hvcnQ="}))
    assert [each["event"] for each in events] == ["webhook.secret_short"]


async def test_who_had_to_wait_is_signed_again_because_the_timestamp_is_the_attempts(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, so that the second total, signed together with the first, waits for the first one's answer."""
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment)

    async def late(request: web.Request) -> web.StreamResponse:
        nonlocal moment
        moment += 100
        return web.Response()

    receiver.answer = late
    async with opened(receiver, concurrency=1) as sink:
        await sink.deliver([total("u1"), total("u2")])
    first, second = (int(each.headers["webhook-timestamp"]) for each in receiver.deliveries)
    assert second == first + 100
    for each in receiver.deliveries:
        each.verify()
