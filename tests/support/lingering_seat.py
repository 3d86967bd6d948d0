"""Run on a booted machine: lets its user linger, and starts a seat as a unit, with the product's own parts.

    python -m tests.support.lingering_seat HOME COMMAND…

Prints how the seat is supervised then, as JSON. HOME is a Mosaic home; there is no host-agent and no control plane.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from mosaic_cli.machine import systemd
from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home, write_private
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal.server import Launch
from mosaic_hostagent.units.choice import supervision_of


async def start(home: Home, command: list[str]) -> None:
    units.write_supervision(home, units.SYSTEMD)
    pool, supervision = supervision_of(home, environment=os.environ, stop_grace=1.0)
    server = ServerKey("lingering", "_holder")
    launch = Launch(
        agent_id="agent-a",
        name="a",
        run_id=str(new_id()),
        generation=1,
        restart=0,
        launch_digest="d",
        argv=command,
        env={},
        folder=Path("/"),
    )
    await pool.observe(server, start=True)
    await supervision.start(launch, server)
    sys.stdout.write(json.dumps(asdict(supervision.standing("agent-a", "a"))))
    await pool.close()


def main() -> None:
    home = Home(Path(sys.argv[1]))
    reason = systemd.bring_up() or systemd.let_linger()
    assert not reason, reason
    texts = units.unit_texts(home, python=sys.executable, hostagent="/bin/false", catalog=Catalog.open())
    folder = units.unit_folder(os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    kept = {key: os.environ[key] for key in ("PATH", "TMUX_TMPDIR")}
    write_private(units.environment_file(home), units.environment_text(kept).encode())
    systemd.systemctl("daemon-reload")
    asyncio.run(start(home, sys.argv[2:]))


if __name__ == "__main__":
    main()
