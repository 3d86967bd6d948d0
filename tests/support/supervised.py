"""A host-agent's parts under systemd: the same World, whose seats are units of a manager of the test's own."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.supervision import Supervision
from mosaic_hostagent.units.systemctl import Systemctl
from mosaic_hostagent.units.systemd import Holders, Systemd

from tests.support.hostagent import HOME_DIGEST, World
from tests.support.tmux import PrivateTmux
from tests.support.user_systemd import UserSystemd


def install_units(root: Path, systemd: UserSystemd) -> None:
    """Put the units of a home where the manager finds them."""
    home = Home(root)
    environment = systemd.environment
    folder = Path(environment["HOME"]) / ".config" / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    program = str(Path(sys.executable).with_name("mosaic-hostagent"))
    texts = units.unit_texts(home, python=sys.executable, hostagent=program, catalog=Catalog.open())
    for name, text in texts.items():
        (folder / name).write_text(text)
    kept = {key: environment[key] for key in ("PATH", "TMUX_TMPDIR", "SHELL", "PS1") if key in environment}
    units.environment_file(home).parent.mkdir(parents=True, exist_ok=True)
    units.environment_file(home).write_text(units.environment_text({**kept, "MOSAIC_HOME": str(root)}))
    systemd.ctl("daemon-reload")


class SystemdWorld(World):
    """A World whose supervision is systemd."""

    def __init__(
        self,
        private: PrivateTmux,
        journal: Journal,
        state: Path,
        manifest: Callable[[str], Manifest],
        systemd: UserSystemd,
    ) -> None:
        self.systemd = systemd
        super().__init__(private, journal, state, manifest)

    def _supervise(self, environment: dict[str, str]) -> tuple[ServerPool, Supervision]:
        systemctl = Systemctl(environment)
        holders = Holders(systemctl=systemctl, state_folder=self.state, home=HOME_DIGEST, environment=environment)
        pool = ServerPool(self.state, home=HOME_DIGEST, environment=environment, holders=holders)
        return pool, Systemd(
            pool=pool,
            systemctl=systemctl,
            root=self.state.parent,
            home=HOME_DIGEST,
            user=getpass.getuser(),
            environment=environment,
            stop_grace=1.0,
        )

    def switch_off(self) -> None:
        self.systemd.stop()

    def boot(self) -> None:
        self.systemd.start()


def unit_of(name: str) -> str:
    return units.agent_unit(name)
