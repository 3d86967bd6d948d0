"""Seats whose programs are stand-ins: how a launch arrives, whoever supervises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mosaic_framework.env_files import new_env_file, parse_env_file, quoted
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.seat_environment import PROGRAM, RUNTIME, write_env_file
from mosaic_hostagent.residents import Resident
from mosaic_proto.v1.seeding_pb2 import Briefing

from tests.support.hostagent import World, eventually
from tests.support.standin import StandIn, Started, hostile, make_stand_in


class Seats:
    """Seats whose programs are stand-ins, in a world of their own."""

    def __init__(self, world: World, folder: Path, manifest: Callable[[str], Manifest]) -> None:
        self.world, self.folder, self.manifest = world, folder, manifest
        self.home = Home(world.state.parent)
        self.trace = folder / "trace"
        self.text = hostile(self.trace)
        self.generation = 0

    def stand_in(self, runtime: str) -> StandIn:
        name = {"shell": "bash"}.get(runtime, runtime)
        return make_stand_in(self.folder / "o d;d" / name, self.folder / f"{runtime}.json")

    async def launched(self, program: StandIn, briefing: Briefing | None = None, **spec: Any) -> Started:
        """Start one seat whose program is the stand-in, and return how that was started."""
        runtime = spec.setdefault("runtime", "claude")
        name = f"seat-{runtime}-{self.generation}"
        if not spec.get("command"):
            recorded = new_env_file(name).refreshed({RUNTIME: runtime, PROGRAM: str(program.path)})
            site = parse_env_file(f"SITE={quoted(self.text)}\n", source="x")
            write_env_file(self.home, name, type(site)((*site.lines, *recorded.lines)))
        self.generation += 1
        program.record.unlink(missing_ok=True)
        seat = self.world.seat(name, **spec)
        self.world.want(seat, generation=self.generation, briefing=briefing)
        await eventually(lambda: program.started, f"{name} starts; told: {self.world.reports[-1:]}")
        found = program.started
        assert found is not None
        return found

    @property
    def resident(self) -> Resident:
        """The seat that is wanted now."""
        (found,) = self.world.supervisor.residents.values()
        return found

    async def base(self) -> dict[str, str]:
        """What a program's environment has when nothing is said of it."""
        plain = make_stand_in(self.folder / "plain", self.folder / "plain.json")
        started = await self.launched(plain, runtime="shell", command=[str(plain.path)])
        return started.env
