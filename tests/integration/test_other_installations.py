"""Two installations on one table: one in which nobody leads is told of, for what it captures only grows."""

from __future__ import annotations

from creditsd.admin.doctor import examine
from creditsd.config.settings import Settings
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import MemorySink, configured, installed
from tests.integration.running import running, until

IMAGES = "creditsd_images"
BEGINS = "creditsd also stands on public.user_credits as"


async def notes_of_the_doctor(settings: Settings) -> list[str]:
    return [each.said async for each in examine(settings) if each.about == "table" and each.level == "note"]


async def test_an_installation_beside_us_in_which_nobody_leads_is_told_of(reference_table: Database) -> None:
    first = await installed(reference_table)
    second = configured(reference_table, schema=IMAGES)
    (said,) = (await schema.install(second)).notes
    assert said.startswith(f"{BEGINS} creditsd, and nobody leads there")
    assert said.endswith("`CREDITSD_SCHEMA=creditsd creditsd uninstall`")
    assert said in await notes_of_the_doctor(second)
    (of_first,) = (await schema.install(first)).notes
    assert of_first.startswith(f"{BEGINS} {IMAGES}, and nobody leads there")
    assert of_first.endswith(f"`CREDITSD_SCHEMA={IMAGES} creditsd uninstall`")
    await schema.uninstall(first)
    assert (await schema.install(second)).notes == []


async def test_one_that_is_led_is_not(reference_table: Database) -> None:
    first, second = await installed(reference_table), configured(reference_table, schema=IMAGES)
    async with running(first, MemorySink()) as daemon:
        await until(daemon, "state", "leading")
        assert (await schema.install(second)).notes == []
        assert await notes_of_the_doctor(second) == []


async def test_one_on_another_table_is_not(reference_table: Database) -> None:
    await installed(reference_table)
    reference_table.run("CREATE TABLE image_credits (LIKE user_credits INCLUDING ALL)")
    second = configured(reference_table, schema=IMAGES, source={"table": "public.image_credits"})
    assert (await schema.install(second)).notes == []
