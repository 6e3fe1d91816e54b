"""Every command of an installation by another name, where the first is not there at all; and `status --all`."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.acceptance.command import running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.servers import Valkey


@pytest.fixture
def named(operator: Operator, valkey: Valkey) -> Operator:
    """Somebody whose settings name an installation."""
    env = operator.env | {
        "CREDITSD_SCHEMA": "images_2",
        "CREDITSD_SINKS": f'[{{"name": "cache", "url": "{valkey.url}", "prefix": "images:"}}]',
        "CREDITSD_HISTORY__DAYS": "2",
    }
    return Operator(operator.database, env)


async def test_every_command_speaks_of_the_installation_that_is_named(
    named: Operator, tmp_path: Path, valkey: Valkey
) -> None:
    refused = await named.creditsd("run")
    assert (refused.code, refused.err.count("\n")) == (78, 1)
    assert "creditsd is not installed in this database" in refused.err
    await named.install()
    async with running(tmp_path, env=named.env) as daemon:
        await daemon.until_ready()
        assert (await named.creditsd("backfill")).code == 0
        assert (await named.creditsd("verify")).code == 0
        assert (await named.creditsd("verify", "--sink", "cache")).code == 0
        (only,) = (await named.creditsd("status", "--all")).json
        assert (only["schema"], only["table"], only["problem"]) == ("images_2", "public.user_credits", "")
        assert only["leader_pid"] == (await named.creditsd("status")).json["leader_pid"]
        assert (await named.creditsd("get", ONE)).json["data"]["credits"] == 120
        assert "cache" in (await named.creditsd("explain", ONE)).json["sinks"]
        assert (await named.creditsd("history", ONE)).code == 0
        for asked in (
            ["sinks", "list"],
            ["deliveries", "list"],
            ["sinks", "test", "cache"],
            ["sinks", "pause", "cache"],
        ):
            done = await named.creditsd(*asked)
            assert done.code == 0, done.err
        assert (await named.creditsd("sinks", "resume", "cache")).code == 0
        found = await named.creditsd("doctor")
        assert [each for each in found.json["findings"] if each["level"] == "problem"] == []
        assert (await named.creditsd("forget", TWO)).code == 0
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        assert client.keys("*") == [f"images:{ONE}"]
    again = await named.creditsd("uninstall")
    assert (again.code, named.installed()) == (0, False)


async def test_the_printed_script_names_no_other_schema(named: Operator) -> None:
    shown = await named.creditsd("install", "--print")
    assert shown.code == 0
    assert "CREATE SCHEMA images_2;" in shown.out
    assert "creditsd." not in shown.out.replace("'creditsd.careful'", "").replace("'creditsd.marked_'", "")


async def test_status_of_all_in_a_database_without_any(operator: Operator) -> None:
    assert (await operator.creditsd("status", "--all")).json == []


@pytest.mark.parametrize("name", ["Credits 2", "order", "public", 'x"; DROP TABLE user_credits; --'])
async def test_a_name_that_cannot_be_is_one_line(operator: Operator, name: str) -> None:
    done = await operator.creditsd("install", CREDITSD_SCHEMA=name)
    assert (done.code, done.out, done.err.count("\n")) == (78, "", 1)
    assert "CREDITSD_SCHEMA" in done.err
