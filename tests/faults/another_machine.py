"""A network namespace: another machine as far as packets go, and a wire to it that can lose them all."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


def run(*command: str) -> None:
    """Run a command of iproute2."""
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class AnotherMachine:
    """`here` is our address on the wire; `through` runs a command over there."""

    name: str
    here: str
    network: str

    @property
    def through(self) -> Sequence[str]:
        """Return what runs a command over there."""
        return ("ip", "netns", "exec", self.name)

    def lose_packets(self) -> None:
        """Drop whatever is sent from now on, either way, without a word to anybody."""
        run("tc", "qdisc", "replace", "dev", f"{self.name}h", "root", "blackhole")
        run(*self.through, "tc", "qdisc", "replace", "dev", f"{self.name}t", "root", "blackhole")


@contextlib.contextmanager
def another_machine(number: int) -> Iterator[AnotherMachine]:
    """Set one up for as long as the block lasts. Raises OSError or CalledProcessError where we may not."""
    name = f"c{os.getpid() % 1_000_000}"
    machine = AnotherMachine(name, f"10.231.{number}.1", f"10.231.{number}.0/30")
    try:
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}t", "netns", name)
        run("ip", "address", "add", f"10.231.{number}.1/30", "dev", f"{name}h")
        run("ip", "link", "set", f"{name}h", "up")
        for command in (
            f"ip address add 10.231.{number}.2/30 dev {name}t",
            f"ip link set {name}t up",
            "ip link set lo up",
        ):
            run(*machine.through, *command.split())
        yield machine
    finally:
        # A namespace lives on while a connection of it does, and its end of the wire with it.
        for ends in (["ip", "link", "delete", f"{name}h"], ["ip", "netns", "delete", name]):
            subprocess.run(ends, check=False, capture_output=True)
