"""What `mosaic up` runs on this machine: which programs, in which order, and when each is ready."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mosaic_framework.errors import InvalidInput
from mosaic_framework.paths import Home, write_private

from mosaic_cli.failures import InternalFault

DATABASE, CONTROLPLANE, HOSTAGENT = "database", "controlplane", "hostagent"
ALL = (DATABASE, CONTROLPLANE, HOSTAGENT)

MARK = "MOSAIC_SERVICE"
"""Environment variable that every process of ours carries, so that what is left over can be found."""


class PlanDamaged(InvalidInput):
    """The file that says what this machine runs cannot be read."""

    code = "machine-file-damaged"

    @classmethod
    def of(cls, path: Path, why: str) -> PlanDamaged:
        """Return what to raise for this file."""
        next_step = f"move {path} away, then: mosaic up (where the control plane runs), else: mosaic host join"
        return cls(f"{path} does not say what this machine runs", why=why, next_step=next_step)


@dataclass(frozen=True, slots=True)
class Plan:
    """What this machine runs; kept in state/machine.json. A port of None: as the control plane's own settings say."""

    services: tuple[str, ...] = ALL
    enrol_port: int | None = None
    fleet_port: int | None = None
    peer_port: int | None = None

    @classmethod
    def load(cls, home: Home) -> Plan:
        """Return the plan of `home`: everything, unless it was told otherwise. Raises PlanDamaged."""
        path = home.state / "machine.json"
        if not path.exists():
            return cls()
        try:
            content = json.loads(path.read_text("utf-8"))
            services = tuple(content["services"])
            ports = [content.get(name) for name in ("enrol_port", "fleet_port", "peer_port")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanDamaged.of(path, f"{type(error).__name__}: {error}") from error
        if unknown := [name for name in services if name not in ALL]:
            raise PlanDamaged.of(path, f"there is no service {unknown[0]!r}")
        if not all(port is None or isinstance(port, int) for port in ports):
            raise PlanDamaged.of(path, "a port is no number")
        return cls(services, *ports)

    def save(self, home: Home) -> None:
        """Keep the plan for the next start."""
        write_private(home.state / "machine.json", json.dumps(asdict(self)).encode())

    @property
    def has_controlplane(self) -> bool:
        """Whether this machine is a cluster's control plane, not only a host."""
        return CONTROLPLANE in self.services


@dataclass(frozen=True, slots=True)
class Service:
    """One program that the supervisor keeps running.

    It is ready once it has written `ready_file`; it is started once all of `needs` are ready and `requires` exists.
    `stop_within` are the seconds it has after SIGTERM.
    """

    name: str
    argv: tuple[str, ...]
    ready_file: Path
    log: Path
    needs: tuple[str, ...] = ()
    requires: Path | None = None
    stop_within: float = 10.0
    environment: dict[str, str] = field(default_factory=dict)


def services(home: Home, plan: Plan) -> list[Service]:
    """Return the services of `plan`, in the order in which they start."""
    database_is_ours = DATABASE in plan.services and not _has_own_database(home)
    found: list[Service] = []
    if database_is_ours:
        argv = (program("mosaic-controlplane"), "database")
        found.append(_service(home, DATABASE, argv, stop_within=30.0))
    if plan.has_controlplane:
        ports = {
            "MOSAIC_ENROL_PORT": plan.enrol_port,
            "MOSAIC_FLEET_PORT": plan.fleet_port,
            "MOSAIC_PEER_PORT": plan.peer_port,
        }
        found.append(
            _service(
                home,
                CONTROLPLANE,
                (program("mosaic-controlplane"), "serve"),
                needs=(DATABASE,) if database_is_ours else (),
                environment={name: str(port) for name, port in ports.items() if port is not None},
            )
        )
    if HOSTAGENT in plan.services:
        found.append(
            _service(
                home,
                HOSTAGENT,
                (program("mosaic-hostagent"), "serve"),
                needs=(CONTROLPLANE,) if plan.has_controlplane else (),
                requires=home.pki / "host" / "identity.json",
            )
        )
    return found


def program(name: str) -> str:
    """Return the path of one of our programs: beside this Python, else on PATH."""
    for folder in (Path(sys.executable).parent, Path(sys.argv[0]).absolute().parent):
        if os.access(folder / name, os.X_OK):
            return str(folder / name)
    found = shutil.which(name)
    if not found:
        raise InternalFault(f"the program {name} is not installed", next_step="install mosaic-fleet again")
    return found


def pid_file(home: Home, name: str) -> Path:
    """Return where the supervisor records a service's process."""
    return home.run / f"{name}.pid"


def _has_own_database(home: Home) -> bool:
    """Whether somebody else runs the register, by the environment or by the control plane's settings."""
    if os.environ.get("MOSAIC_DATABASE_URL"):
        return True
    settings = home.root / "controlplane.yaml"
    if not settings.exists():
        return False
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(settings.read_text("utf-8"))
    except (YAMLError, UnicodeDecodeError):
        return False  # the control plane, whose file it is, says what is wrong with it
    return isinstance(found, dict) and bool(found.get("database_url"))


def _service(
    home: Home,
    name: str,
    argv: tuple[str, ...],
    *,
    needs: tuple[str, ...] = (),
    requires: Path | None = None,
    stop_within: float = 10.0,
    environment: dict[str, str] | None = None,
) -> Service:
    return Service(
        name=name,
        argv=argv,
        ready_file=home.run / f"{name}.json",
        log=home.logs / f"{name}.log",
        needs=needs,
        requires=requires,
        stop_within=stop_within,
        environment={MARK: name, "MOSAIC_HOME": str(home.root), **(environment or {})},
    )
