"""An endpoint that breaks: over one user's total, which is that user's, or over everybody's, which is its own."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from creditsd.sinks import SinkBusy, SinkRefusing, SinkTroubled
from tests.sinks.harness import total
from tests.sinks.webhook_harness import Receiver, always, opened

BROKEN = [500, 501, 507, 520, 521, 522, 523, 524, 525, 526, 527, 530, 599]


async def answering(receiver: Receiver, statuses: dict[str, int]) -> None:
    """Answer some users with a status of theirs, and all others 200."""

    async def answer(request: web.Request) -> web.StreamResponse:
        user_id = json.loads(await request.read())["data"]["user_id"]
        return web.Response(status=statuses.get(user_id, 200))

    receiver.answer = answer


@pytest.mark.parametrize("status", BROKEN)
async def test_what_breaks_over_several_users_in_a_row_is_ill_itself(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, "out of order", Retry_After="30")
    async with opened(receiver, concurrency=4) as sink:
        with pytest.raises(SinkTroubled, match=f"sink billing: .*: answered {status}: out of order") as failure:
            await sink.deliver([total(f"u{number}") for number in range(100)])
    assert failure.value.retry_after_seconds == 30
    assert failure.value.through == len(failure.value.refused) == len(receiver.deliveries)
    assert 4 <= len(receiver.deliveries) < 8, "the fourth, and those who were on their way"


@pytest.mark.parametrize("status", BROKEN)
async def test_what_breaks_over_a_few_users_refuses_those(receiver: Receiver, status: int) -> None:
    await answering(receiver, {f"u{number}": status for number in (0, 1, 2, 7, 9, 19)})
    async with opened(receiver, concurrency=1) as sink:
        refused = await sink.deliver([total(f"u{number}") for number in range(20)])
    assert [(each.total.user_id, each.status) for each in refused] == [
        (f"u{number}", status) for number in (0, 1, 2, 7, 9, 19)
    ]


async def test_users_in_a_row_are_counted_over_batches_and_one_user_only_once(receiver: Receiver) -> None:
    receiver.answer = always(500)
    async with opened(receiver) as sink:
        for user in ("u1", "u1", "u1", "u1", "u2", "u3", "u1"):
            assert len(await sink.deliver([total(user)])) == 1
        for user in ("u4", "u1"):
            with pytest.raises(SinkTroubled):
                await sink.deliver([total(user)])
        receiver.answer = always(200)
        assert list(await sink.deliver([total("u5")])) == []
        receiver.answer = always(500)
        assert len(await sink.deliver([total("u6")])) == 1


@pytest.mark.parametrize("status", [200, 422])
async def test_whoever_is_answered_otherwise_in_between_shows_that_it_works(receiver: Receiver, status: int) -> None:
    others = {f"u{number}": status for number in range(3, 40, 4)}
    await answering(receiver, {f"u{number}": 500 for number in range(40)} | others)
    async with opened(receiver, concurrency=1) as sink:
        if status == 422:  # nobody is accepted at all, so it ends as a receiver that refuses everyone
            with pytest.raises(SinkRefusing, match="refuses everyone") as failure:
                await sink.deliver([total(f"u{number}") for number in range(40)])
            assert not isinstance(failure.value, SinkTroubled)
        else:
            refused = await sink.deliver([total(f"u{number}") for number in range(40)])
            assert len(refused) == 30


async def test_what_breaks_in_the_middle_of_a_batch_is_sent_no_more_of_it(receiver: Receiver) -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if len(receiver.deliveries) <= 100 else 500, text="out of order")

    receiver.answer = breaking
    totals = [total(f"u{number}") for number in range(1024)]
    async with opened(receiver, concurrency=16) as sink:
        with pytest.raises(SinkBusy, match="answered 500: out of order") as failure:
            await sink.deliver(totals)
    assert not isinstance(failure.value, SinkRefusing)
    asked = {each.data["user_id"] for each in receiver.deliveries}
    assert asked == {each.user_id for each in totals[: failure.value.through]}
    assert 104 <= len(receiver.deliveries) <= 104 + 16
    assert len(failure.value.refused) == failure.value.through - 100


async def test_many_who_break_it_do_not_stop_everyone_else_for_good(receiver: Receiver) -> None:
    await answering(receiver, {f"u{number}": 500 for number in range(10)})
    totals = [total(f"u{number}") for number in range(30)]
    async with opened(receiver, concurrency=1) as sink:
        for tried in (4, 8):
            with pytest.raises(SinkTroubled) as failure:
                await sink.deliver(totals)
            assert failure.value.through == tried
        with pytest.raises(SinkBusy) as passed:
            await sink.deliver(totals)
    assert not isinstance(passed.value, SinkTroubled)
    assert (passed.value.through, len(passed.value.refused)) == (11, 10)
