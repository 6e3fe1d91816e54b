"""A webhook that is tried again by a schedule of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError
from creditsd.sinks import make, shown
from creditsd.sinks.webhook.options import Options
from tests.sinks.webhook_harness import SECRET


def configured(schedule: Any) -> SinkSettings:
    return SinkSettings(name="b", url="webhook+https://h/x", options={"secret": SECRET, "schedule": schedule})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (["5s", "5m", "30m", "2h", "1d"], [5, 300, 1800, 7200, 86_400]),
        ([1, 2.5, "60"], [1, 2.5, 60]),
        ([" 1.5 m ", "30d"], [90, 2_592_000]),
        (["1s"] * 50, [1] * 50),
    ],
)
def test_a_schedule_is_written_in_seconds_or_with_a_unit(written: Any, seconds: list[float]) -> None:
    assert Options(secret=SECRET, schedule=written).schedule == seconds
    told, wrong = shown(configured(written))
    assert (told["schedule"], wrong) == (written, None)
    json.dumps(told)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([], "must have 1 to 50 pauses"),
        (["1s"] * 51, "must have 1 to 50 pauses"),
        (["5s", "soon"], "number 2 is no pause: a pause is written as 5s, 5m, 2h, 1d or in seconds"),
        (["5 weeks"], "number 1 is no pause"),
        ([True], "number 1 is no pause"),
        ([None], "number 1 is no pause"),
        (["-5s"], "number 1 is no pause"),
        (["\N{ARABIC-INDIC DIGIT FIVE}s"], "number 1 is no pause"),
        ([0], "number 1 must be from 1s to 30d"),
        (["31d"], "number 1 must be from 1s to 30d"),
        ([float("nan")], "number 1 must be from 1s to 30d"),
        (["5s", 10**400], "number 2 must be from 1s to 30d"),
        ([-(10**400)], "number 1 must be from 1s to 30d"),
        (["5s", 1e300], "number 2 must be from 1s to 30d"),
        ("5s", "Input should be a valid list"),
        (5, "Input should be a valid list"),
    ],
    ids=str,
)
def test_what_is_no_schedule_is_refused_in_one_line(written: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^sink b: schedule: .*{said}") as error:
        make(configured(written))
    assert "\n" not in str(error.value)


def test_without_one_the_schedule_is_that_of_the_specification() -> None:
    assert Options(secret=SECRET).schedule is None
