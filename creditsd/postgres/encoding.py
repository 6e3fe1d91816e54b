"""What a database's own encoding can hold of a stranger's words."""

from __future__ import annotations

from creditsd.postgres.connections import Connection

_HOLD_ALL = ("UTF8", "SQL_ASCII")


def storable(connection: Connection, text: str) -> str:
    r"""Write as `\u660e` what a database of another encoding than UTF8 may have no letter for."""
    if connection.info.parameter_status("server_encoding") in _HOLD_ALL:
        return text
    return text.encode("ascii", "backslashreplace").decode("ascii")
