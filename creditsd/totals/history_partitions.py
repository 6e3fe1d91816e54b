"""Where each step of each total is kept for a time: its daily partitions, opened ahead and dropped in time."""

from __future__ import annotations

import structlog

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row

log = structlog.get_logger()


class HistoryPartitions:
    """Keeps the partitions. What is not opened in time costs nothing but a later, slower way to be deleted."""

    def __init__(self, days: int) -> None:
        self._days = days

    async def tidy(self, connection: Connection) -> bool:
        """Open today's and tomorrow's partition, drop the oldest that is past its days; True where there is more.

        Waits a tenth of a second for a lock; what fails is said by the server's warnings, or done the next time.
        """
        found = await row(connection, sql_files.sql("queries/history_tidied"), {"history_days": self._days})
        assert found is not None
        done = found[0]
        for partition in done["opened"]:
            log.info("history.partition_opened", partition=partition)
        for partition in done["dropped"]:
            log.info("history.partition_dropped", partition=partition)
        return bool(done["more"])
