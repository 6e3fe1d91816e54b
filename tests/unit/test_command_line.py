"""A command line is read far enough to know the command, so that no other has to be imported."""

from __future__ import annotations

import pytest

from creditsd.cli.app import COMMANDS, asked, command_line


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("get 7", "get"),
        ("-c status get 7", "get"),
        ("--config sinks status", "status"),
        ("--config=get verify --repair", "verify"),
        ("deliveries list", "deliveries"),
    ],
)
def test_the_command_that_is_named_comes_alone(line: str, command: str) -> None:
    assert asked(line.split()) == (command,)


@pytest.mark.parametrize("line", ["", "-h", "--version", "-c", "-c file", "gett 7", "--unknown"])
def test_without_one_all_of_them_are_there_to_be_listed_or_suggested(line: str) -> None:
    assert asked(line.split()) == COMMANDS


def test_each_has_its_place() -> None:
    app = command_line()
    assert len(app.registered_commands) + len(app.registered_groups) == len(COMMANDS) == len(set(COMMANDS))
