"""Print creditsd(1), made from the help of the commands themselves and the exit codes of docs/deploy.md."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from creditsd import __version__
from creditsd.cli.app import command_line

EXIT_CODES = Path(__file__).parents[2] / "docs" / "deploy.md"


def page(date: datetime) -> Iterator[str]:
    """Make the page, line by line."""
    command = typer.main.get_command(command_line())
    context = typer.Context(command, info_name="creditsd", **command.context_settings)
    assert isinstance(command, TyperGroup)
    short = (command.help or "").partition(", ")[0]
    yield f'.TH CREDITSD 1 "{date:%Y-%m-%d}" "creditsd {__version__}" "User Commands"'
    yield from (".SH NAME", f"creditsd \\- {text(short[0].lower() + short[1:].rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B creditsd", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]")
    yield from (".SH DESCRIPTION", text(command.help or ""))
    yield ".PP"
    yield from paragraphs(command.epilog or "")
    yield ".SH OPTIONS"
    yield from parameters(command, context)
    yield ".SH COMMANDS"
    yield from commands(command, context)
    yield ".SH EXIT STATUS"
    for code, means in re.findall(r"^\| (\d+) \| ([^|]+?) \|", EXIT_CODES.read_text(encoding="utf-8"), re.MULTILINE):
        yield from (".TP", f".B {code}", text(means))
    yield ".SH FILES"
    yield from (
        ".TP",
        ".I /etc/creditsd/creditsd.toml",
        "The settings, unless --config or CREDITSD_CONFIG names others.",
    )
    yield from (".TP", ".I /etc/creditsd/dsn", "The connection string, which creditsd.service reads as a credential.")
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR journalctl (1),", ".BR psql (1)")


def commands(group: TyperGroup, context: typer.Context) -> Iterator[str]:
    """Make a section of each command below a group, and of those below it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = typer.Context(command, info_name=name, parent=context)
        if isinstance(command, TyperGroup):
            yield from commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner)).replace("[OPTIONS]", "[options]")
        yield f'.SS "{inner.command_path} {quoted(usage)}"'
        yield from paragraphs(command.help or "")
        yield from parameters(command, inner)


def parameters(command: Any, context: typer.Context) -> Iterator[str]:
    """Make what a command takes, each as its help says it."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f".B {text(record[0])}", text(record[1]) or "\\&")


def paragraphs(written: str) -> Iterator[str]:
    """Make paragraphs of what blank lines part; the first stands right below its heading."""
    for number, each in enumerate(re.split(r"\n\s*\n", written.strip())):
        if number:
            yield ".PP"
        yield text(each)


def text(written: str) -> str:
    """Text in lines with nothing in them that roff would obey; `code` is bold."""
    line = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", quoted(" ".join(written.split())))
    lines = textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(re.sub(r"^([.'])", r"\\&\1", each) for each in lines)


def quoted(written: str) -> str:
    """Let a backslash be itself, and every dash the one of the keyboard, which can be copied."""
    return written.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("…", "...")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", type=int, required=True, help="of the page, in seconds since 1970")
    sys.stdout.write("\n".join(page(datetime.fromtimestamp(parser.parse_args().date, UTC))) + "\n")
