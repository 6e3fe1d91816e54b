"""A network namespace: another machine as far as packets go, and a wire to it that can lose them all."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network


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

    def carry_packets(self) -> None:
        """Send them again, whatever is still waited for."""
        run("tc", "qdisc", "delete", "dev", f"{self.name}h", "root")
        run(*self.through, "tc", "qdisc", "delete", "dev", f"{self.name}t", "root")


@contextlib.contextmanager
def another_machine(which: int = 0) -> Iterator[AnotherMachine]:
    """Set one up for as long as the block lasts; a process may have two, 0 and 1, on networks that are nobody else's.

    Raises OSError or CalledProcessError where we may not.
    """
    number = os.getpid() * 2 + which
    # 100.64.0.0/10 is for wires between two networks, in four addresses each.
    network = ip_network((int(ip_address("100.64.0.0")) + number % 2**20 * 4, 30))
    here, there = network.hosts()
    name = f"c{number % 10_000_000}"
    machine = AnotherMachine(name, str(here), str(network))
    try:
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}t", "netns", name)
        run("ip", "address", "add", f"{here}/30", "dev", f"{name}h")
        run("ip", "link", "set", f"{name}h", "up")
        for command in (
            f"ip address add {there}/30 dev {name}t",
            f"ip link set {name}t up",
            "ip link set lo up",
        ):
            run(*machine.through, *command.split())
        yield machine
    finally:
        # A namespace lives on while a connection of it does, and its end of the wire with it.
        for ends in (["ip", "link", "delete", f"{name}h"], ["ip", "netns", "delete", name]):
            subprocess.run(ends, check=False, capture_output=True)
