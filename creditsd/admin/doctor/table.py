"""The application's table: whether all is installed and every change is seen, and what its rows may surprise with."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors

from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.admin.sink_condition import COUNTED
from creditsd.config.settings import Settings
from creditsd.domain.errors import CreditsdError, DatabaseUnavailable
from creditsd.domain.total import digits
from creditsd.postgres import sql_files
from creditsd.postgres.batches import summed
from creditsd.postgres.connections import Connection, row, rows, translated
from creditsd.schema import hints
from creditsd.schema.installation import Stops, compare
from creditsd.schema.source_table import SourceTable

ROWS_SECONDS = 5


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Compare what is installed with what is there, as the daemon does while it leads."""
    compared = await compare(connection, settings)
    if compared.divergences:
        return [problem("table", each.problem, each.hint) for each in compared.divergences]
    installed = compared.installed()
    said = f"every change of {settings.source.table} is seen; the schema is at migration {installed.migration}"
    source = await SourceTable.inspect(connection, settings)
    awaited = [*await hints.forgotten(connection, source), *await hints.trigger_makers(connection, source)]
    notes = [*hints.of_table(source), *awaited]
    return [good("table", said), *(note("table", each) for each in notes)]


async def readable(connection: Connection, settings: Settings) -> bool:
    """Whether what is stored can be read: that is said of the table where not."""
    try:
        compared = await compare(connection, settings)
    except CreditsdError:
        return False
    return all(each.stops < Stops.EVERYTHING for each in compared.divergences)


async def examine_rows(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Name users whose rows cannot be summed up, and expired packs that hold credits."""
    aside = await rows(connection, sql_files.sql("queries/problems_counted"), {"limit": COUNTED})
    found = [
        problem("rows", f"set aside, because {why}: {_counted(users)}, e.g. {one}", f"creditsd explain {one}")
        for why, users, one in aside
    ]
    return [*found, *await _left_over(connection, settings)]


async def examine_publications(connection: Connection, _: Settings) -> Sequence[Finding]:
    """Name publications that carry tables of ours which no subscriber can want."""
    return [
        note("publications", f"{publication} publishes {tables} tables of creditsd that are of no use to a subscriber")
        for publication, tables in await rows(connection, sql_files.sql("queries/publications_of_ours"))
    ]


async def _left_over(connection: Connection, settings: Settings) -> Sequence[Finding]:
    words = {"expire_empty": settings.expire_empty, "expired_status": settings.source.expired_status}
    try:
        with translated(), summed("one of several"):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL statement_timeout TO '{ROWS_SECONDS}s'")
                found = await row(connection, sql_files.sql("queries/rows_left_over"), words)
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, errors.QueryCanceled):
            raise
        return [note("rows", f"not all looked at: that takes more than {ROWS_SECONDS} s")]
    if found is None or not found[0]:
        return []
    number, left, one = found
    which = "an expired one-time row holds" if number == 1 else f"{number} expired one-time rows hold"
    said = f"{which} {digits(left)} credits, which count no more"
    return [note("rows", said, f"creditsd explain {one}")]


def _counted(users: int) -> str:
    more = " or more" if users >= COUNTED else ""
    return "1 user" if users == 1 else f"{users}{more} users"
