"""A hint names the command that acts on the installation it is about."""

from __future__ import annotations

import pytest

from creditsd.admin.doctor import examine
from creditsd.admin.inspect import Inspector
from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import as_role, configured

OF_IMAGES = "`CREDITSD_SCHEMA=creditsd_images creditsd install"


@pytest.mark.parametrize(("name", "command"), [("creditsd", "`creditsd install"), ("creditsd_images", OF_IMAGES)])
async def test_what_mends_an_installation_is_said_for_that_one(
    reference_table: Database, role: str, name: str, command: str
) -> None:
    settings = configured(reference_table, schema=name)
    with pytest.raises(SchemaError, match=f"is not installed in this database: run {command}`"):
        async with Inspector.opened(settings, purpose="test"):
            pass
    await schema.install(settings)
    stranger = as_role(reference_table, role)
    with pytest.raises(SchemaError, match=f"lacks a right; run {command} --role NAME`"):
        async with Inspector.opened(configured(stranger, schema=name), purpose="test"):
            pass
    reference_table.run(f"DELETE FROM {name}.installation")
    with pytest.raises(SchemaError, match=f"is there, but empty: run {command.replace('install', 'uninstall')}`"):
        await schema.install(settings)
    said = [each.hint + each.said async for each in examine(settings) if each.about == "table"]
    assert any(command.replace("install", "uninstall") in each for each in said)
