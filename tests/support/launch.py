"""Runs a program that kills itself at a place: `python -m tests.support.launch PLACE NTH PROGRAM ARGUMENTS`.

The product has no switch for this: here the observer of `mosaic_framework.steps` is replaced before the program starts.
PLACE `-` kills nowhere.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

from mosaic_framework import steps


def main() -> None:
    place, nth, program, *arguments = sys.argv[1:]
    left = int(nth)

    def observe(name: str) -> None:
        nonlocal left
        if name == place:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if place != "-":
        steps._observer = observe
    sys.argv = [program, *arguments]
    module = {
        "mosaic-controlplane": "mosaic_controlplane.main",
        "mosaic-hostagent": "mosaic_hostagent.main",
        "mosaic": "mosaic_cli.main",
    }[program]
    sys.exit(importlib.import_module(module).run())


if __name__ == "__main__":
    main()
