"""`creditsd doctor`: looks at everything the line depends on."""

from __future__ import annotations

from creditsd.admin.doctor import Finding, examine
from creditsd.cli import render
from creditsd.cli.console import Json, console, finish, invocation, say_json
from creditsd.config import log


def doctor(json: Json = False) -> None:
    """Check what the line depends on, and say of each thing that is amiss what mends it.

    Settings and secrets, the daemon here, the sinks, the server and its connections, the table and what is installed,
    rights, the doorbell's round trip, who leads. Nothing is changed, and nothing delivered.

    Ends with 0 where nobody need mend anything, with 1 where somebody must, with 69 where PostgreSQL or a sink cannot
    be reached, with 78 where settings or schema are wrong.
    """
    settings = invocation.settings()
    log.configure(settings.log.model_copy(update={"level": "error"}))  # what it would warn of is found, and said
    shown = not json and console.is_terminal

    async def look() -> list[Finding]:
        found = []
        async for each in examine(settings):
            found.append(each)
            if shown:
                console.print(render.finding_line(each), soft_wrap=True)
        return found

    found = finish(look())
    worst = max(each.exit_code for each in found)
    if shown:
        render.findings_counted(console, found)
    else:
        say_json({"well": worst == 0, "findings": [each.document() for each in found]})
    if worst:
        raise SystemExit(worst)
