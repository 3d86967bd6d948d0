"""mosaic-hostagent: makes the settings, starts the host-agent or releases what it left, and tells errors once."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict

import structlog
from mosaic_framework import __version__, health, logs, open_files
from mosaic_framework.errors import EXIT_INTERRUPTED, FleetError, told
from mosaic_framework.notify import say_stopping
from mosaic_framework.paths import Home

from mosaic_hostagent import config
from mosaic_hostagent.agent import HostAgent, take_home
from mosaic_hostagent.observing import PROGRAM
from mosaic_hostagent.release import release
from mosaic_hostagent.verify import verify

log = structlog.get_logger(__name__)


async def serve(home: Home, settings: config.Config) -> None:
    """Run the host-agent of `home` until SIGTERM or SIGINT. Seats go on after it."""
    open_files.raise_limit()
    lock = take_home(home)
    try:
        agent = await HostAgent.open(home=home, config=settings, environment=os.environ)
        try:
            await _run_until_asked_to_stop(agent)
        finally:
            await agent.close()
    finally:
        lock.release()


async def _run_until_asked_to_stop(agent: HostAgent) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    log.info("serving", pid=os.getpid())
    work = asyncio.create_task(agent.run(), name="host-agent")
    stop = asyncio.create_task(asked.wait(), name="stop")
    try:
        await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        log.info("stopping; seats go on")
        say_stopping()
    finally:
        stop.cancel()
        work.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mosaic-hostagent", description="Runs a host's seats and delivers messages into them."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="run this host's seats until told to stop; they go on after that")
    verbs.add_parser("health", help="say whether the host-agent of this home is alive and ready (exit 0: ready)")
    verbs.add_parser("verify", help="print, a JSON object a line, how each seat really is: by tmux and its process")
    verbs.add_parser("release", help="end the sessions that a stopped host-agent left running")
    return parser.parse_args(arguments)


def run() -> None:
    """Entry point of the mosaic-hostagent command."""
    options = _parse(sys.argv[1:])
    home = Home.from_environment()
    try:
        settings = config.load(home.root / "hostagent.yaml", os.environ)
        logs.set_up(settings.log_level)
        if options.verb == "serve":
            asyncio.run(serve(home, settings))
        elif options.verb == "health":
            sys.exit(health.tell(home, PROGRAM))
        elif options.verb == "verify":
            for seat in asyncio.run(verify(home, os.environ)):
                sys.stdout.write(f"{json.dumps(asdict(seat))}\n")
        else:
            for line in asyncio.run(release(home, settings, os.environ)):
                sys.stdout.write(f"{line}\n")
    except* FleetError as group:
        # One is told: the first that ended the whole is why.
        error = _first(group)
        sys.stderr.write("\n".join(told(error)) + "\n")
        raise SystemExit(error.exit_code) from None
    except* KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _first(group: BaseExceptionGroup[FleetError]) -> FleetError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an empty group of exceptions")


if __name__ == "__main__":
    run()
