"""Runs a program that kills itself at a place: `python -m tests.support.launch PLACE NTH PROGRAM ARGUMENTS`.

The product has no switch for this: here the observer of `mosaic_framework.steps` is replaced before the program starts.
PLACE `-` kills nowhere. Told SIGUSR2, it writes to its standard error what each of its tasks waits for.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from types import FrameType

from mosaic_framework import steps


def _tell_of_tasks(_number: int, _frame: FrameType | None) -> None:
    for task in asyncio.all_tasks():
        waits = []
        step = task.get_coro()
        while step is not None:
            frame = (
                getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None) or getattr(step, "ag_frame", None)
            )
            waits.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" if frame else repr(step))
            step = (
                getattr(step, "cr_await", None)
                or getattr(step, "gi_yieldfrom", None)
                or getattr(step, "ag_await", None)
            )
        sys.stderr.write(f"task {task.get_name()}:\n  " + "\n  ".join(waits) + "\n")


def main() -> None:
    signal.signal(signal.SIGUSR2, _tell_of_tasks)
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
