"""Walks more of the protocol's model than every test run can: how many states, and that nothing is wrong in any."""

from __future__ import annotations

import time

from tests.protocol.model import ABORTED, PLAIN, TWICE, Model


def main() -> None:
    for crashes, *writers in ((0, PLAIN, PLAIN, PLAIN, PLAIN), (0, PLAIN, TWICE, ABORTED), (1, PLAIN, PLAIN, PLAIN)):
        begun = time.monotonic()
        states, wrong = Model().walk(*writers, crashes=crashes)
        said = f"{len(writers)} writers, {crashes} crashes: {states:,} states in {time.monotonic() - begun:.0f} s"
        print(f"{said}, {wrong or 'nothing wrong in any'}")


if __name__ == "__main__":
    main()
