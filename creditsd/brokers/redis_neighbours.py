"""Who else writes at the same place of a Redis, told by the names of connections: nothing is stored there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from redis.exceptions import RedisError

from creditsd.domain.owner import Owner

_MARK = "creditsd"

LIST = ("CLIENT", "LIST", "TYPE", "normal")


class Place(NamedTuple):
    """Where totals are written in one database of a server: what begins the keys, and the stream, if any."""

    prefix: str
    stream: str

    def shared_with(self, other: Place) -> str | None:
        """Say what of this place the other one has, too; None where they do not meet."""
        if self.prefix == other.prefix:
            return f"prefix {self.prefix!r}"
        return f"stream {self.stream!r}" if self.stream and self.stream == other.stream else None


class Occupied(RedisError):  # noqa: N818  reads as the state it reports
    """Another installation writes at our place: theirs and ours, and what both have (`prefix 'credits:'`)."""

    def __init__(self, other: Owner, owner: Owner, shared: str) -> None:
        super().__init__(f"{other} {shared}")
        self.other, self.owner, self.shared = other, owner, shared

    def __str__(self) -> str:
        theirs, ours = f"the installation {self.other.schema}", self.owner.schema
        if self.other.database != self.owner.database:
            theirs += f" of another database ({self.other.database})"
        if self.other.schema == self.owner.schema:
            ours += f" of {self.owner.database}"
        what = self.shared.partition(" ")[0]
        mend = f"give this sink another {what}"
        if what == "prefix":  # keys hold the higher version, whoever's; a stream cannot be mended
            mend += ", then run `creditsd verify --sink NAME --repair` in both installations"
        return f"{theirs} writes at the {self.shared} already, and this is {ours}: {mend}"


class _Seen(NamedTuple):
    """A connection with a name of ours: its number, which is the higher the younger it is."""

    number: int
    owner: Owner
    place: Place


class Neighbours:
    """Names connections after an installation and its place, and of two at one place has the later one give way."""

    def __init__(self, owner: Owner, place: Place, database: int) -> None:
        self._owner = owner
        self._place = place
        self._database = database
        self.unseen = False
        """Whether the server does not tell us of others, or others of us, for lack of rights mostly."""

    @property
    def greeting(self) -> Sequence[tuple[str, ...]]:
        """The commands that each connection begins with."""
        return (("CLIENT", "SETNAME", _name(self._owner, self._place)), LIST)

    def greeted(self, answers: Sequence[Any]) -> None:
        """Judge by the answers to the greeting, of a connection that others may not have seen. Raises Occupied."""
        self.judge(answers[-1], arriving=True)

    def judge(self, clients: Any, *, arriving: bool = False) -> None:
        """Judge by an answer to LIST. Raises Occupied where another installation was there before all of ours.

        The youngest of ours does not count as it is `arriving`: who connected later may have had a name before it had.
        """
        if isinstance(clients, Exception):
            self.unseen = True
            return
        text = clients.decode(errors="replace") if isinstance(clients, bytes) else clients
        seen = [each for line in text.splitlines() if (each := self._seen(line)) is not None]
        ours = sorted(each.number for each in seen if (each.owner, each.place) == (self._owner, self._place))
        self.unseen = not ours
        if arriving:
            ours = ours[:-1]
        others = [each for each in seen if each.owner != self._owner and self._place.shared_with(each.place)]
        first = min(others, default=None)
        if first is not None and (not ours or first.number < ours[0]):
            shared = self._place.shared_with(first.place)
            assert shared is not None
            raise Occupied(first.owner, self._owner, shared)

    def _seen(self, line: str) -> _Seen | None:
        fields = dict(field.partition("=")[::2] for field in line.split())
        parts = [unquote(part) for part in fields.get("name", "").split(":")]
        if parts[0] != _MARK or len(parts) != 5 or fields.get("db") != str(self._database):
            return None
        _, schema, database, prefix, stream = parts
        return _Seen(int(fields["id"]), Owner(schema, database), Place(prefix, stream))


def _name(owner: Owner, place: Place) -> str:
    """Write the name of a connection, which takes no blanks."""
    return ":".join(quote(part, safe="") for part in (_MARK, *owner, *place))
