"""systemd user units: their names, their texts, and where they lie."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home, write_private

SYSTEMD = "systemd"
BUILT_IN = "built-in"

HOSTAGENT = "mosaic-hostagent.service"
AGENT_TEMPLATE = "mosaic-agent@.service"
HOLDER_TEMPLATE = "mosaic-holder@.service"
REGISTER = "mosaic-register.service"
CONTROLPLANE = "mosaic-controlplane.service"
WANTED_BY = "default.target"

_LONGEST_INSTANCE = 200
"""A unit's name has at most 255 characters (systemd's UNIT_NAME_MAX)."""
_FIELD = re.compile(r"\{(\w+)\}")
_MARK = "# MOSAIC_HOME="


class SupervisionUnknown(FleetError):
    """What supervises the seats of this home cannot be read."""

    code = "supervision-unknown"


def escape(text: str) -> str:
    """Return `text` as systemd writes it in a unit's name: see `man systemd-escape`."""
    plain = re.compile(r"[A-Za-z0-9:_.]")
    written = [one if plain.fullmatch(one) else "".join(f"\\x{byte:02x}" for byte in one.encode()) for one in text]
    if written and written[0] == ".":
        written[0] = "\\x2e"
    return "".join(written)


def instance_of(name: str) -> str:
    """Return what stands for `name` in a unit's name, before it is escaped, and in the name of its launch file.

    It is `name` itself, unless that would be too long escaped; ":" is in no name of an agent or socket.
    """
    if len(escape(name)) <= _LONGEST_INSTANCE:
        return name
    return f"{name[:24]}:{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def agent_unit(name: str) -> str:
    """Return the unit of an agent."""
    return AGENT_TEMPLATE.replace("@.", f"@{escape(instance_of(name))}.")


def holder_unit(socket_name: str) -> str:
    """Return the unit of a tmux server; an empty name is the user's default server."""
    return HOLDER_TEMPLATE.replace("@.", f"@{escape(instance_of(socket_name or 'default'))}.")


def unit_folder(environment: Mapping[str, str]) -> Path:
    """Return where this user's own units lie."""
    configured = environment.get("XDG_CONFIG_HOME")
    base = Path(configured) if configured and Path(configured).is_absolute() else Path.home() / ".config"
    return base / "systemd" / "user"


def environment_file(home: Home) -> Path:
    """Return the file with the variables that our units are given."""
    return home.state / "units.env"


def controlplane_file(home: Home) -> Path:
    """Return the file with the variables of the control plane's unit: its ports, perhaps the register's password."""
    return home.state / "controlplane.env"


def environment_text(variables: Mapping[str, str]) -> str:
    """Return an EnvironmentFile. A value with a line break cannot be carried and is left out."""
    lines = []
    for name, value in sorted(variables.items()):
        if "\n" not in value and "\r" not in value:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
            lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


def unit_texts(home: Home, *, python: str, hostagent: str, catalog: Catalog) -> dict[str, str]:
    """Return the units of a home: file name → text. `python` and `hostagent` are the absolute paths of programs."""
    values = {"python": _in_quotes(python), "program": _in_quotes(hostagent)}
    return _filled(home, (HOSTAGENT, AGENT_TEMPLATE, HOLDER_TEMPLATE), values, catalog)


def controlplane_texts(home: Home, *, controlplane: str, catalog: Catalog) -> dict[str, str]:
    """Return the units of a home's control plane: file name → text. `controlplane` is the path of its program."""
    return _filled(home, (REGISTER, CONTROLPLANE), {"controlplane": _in_quotes(controlplane)}, catalog)


def _filled(home: Home, names: Sequence[str], values: Mapping[str, str], catalog: Catalog) -> dict[str, str]:
    values = {
        **values,
        "mosaic_home": _in_quotes(str(home.root)),
        "environment_file": str(environment_file(home)).replace("%", "%%"),
        "controlplane_file": str(controlplane_file(home)).replace("%", "%%"),
    }
    texts = {}
    for name in names:
        data = (catalog.shipped / "units" / name).read_text("utf-8")
        filled = _FIELD.sub(lambda found: values[found[1]], data)
        texts[name] = f"{_MARK}{home.root}\n# Made by `mosaic fleet install`, which refreshes it.\n{filled}"
    return texts


def home_of(unit: Path) -> Path | None:
    """Return the home that an installed unit belongs to; None when it is not there, or not one of ours."""
    try:
        first = unit.read_text("utf-8").partition("\n")[0]
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return Path(first.removeprefix(_MARK)) if first.startswith(_MARK) else None


def read_supervision(home: Home) -> str:
    """Return what supervises the seats of this home: systemd or built-in. Raises SupervisionUnknown."""
    return _read_supervision(home)[0]


def runs_controlplane(home: Home) -> bool:
    """Say whether register and control plane of this home are units too. Raises SupervisionUnknown."""
    return _read_supervision(home)[1]


def _read_supervision(home: Home) -> tuple[str, bool]:
    path = _file(home)
    try:
        content = json.loads(path.read_bytes())
        found, controlplane = content["supervision"], bool(content.get("controlplane"))
    except FileNotFoundError:
        return BUILT_IN, False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SupervisionUnknown(why=f"{path}: {error}", next_step="mosaic fleet install") from error
    if found not in (SYSTEMD, BUILT_IN):
        raise SupervisionUnknown(why=f"{path} says {found!r}", next_step="mosaic fleet install")
    return str(found), controlplane


def write_supervision(home: Home, supervision: str, *, controlplane: bool = False) -> None:
    """Say what supervises the seats of this home from now on, and whether its control plane is units too."""
    write_private(_file(home), json.dumps({"supervision": supervision, "controlplane": controlplane}).encode())


def lingers(user: str) -> bool:
    """Say whether this user's units start at boot, with nobody logged in (systemd-logind keeps a file for it)."""
    return Path("/var/lib/systemd/linger", user).exists()


def is_enabled(unit: str, environment: Mapping[str, str]) -> bool:
    """Say whether an instance is started with this user's manager."""
    return os.path.lexists(unit_folder(environment) / f"{WANTED_BY}.wants" / unit)


def enabled_units(template: str, environment: Mapping[str, str]) -> list[str]:
    """Return the instances of a template that are started with this user's manager."""
    prefix, _, suffix = template.partition("@")
    folder = unit_folder(environment) / f"{WANTED_BY}.wants"
    return sorted(
        path.name for path in folder.glob("*") if path.name.startswith(f"{prefix}@") and path.name.endswith(suffix)
    )


def _in_quotes(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return escaped.replace("%", "%%").replace("$", "$$")


def _file(home: Home) -> Path:
    return home.state / "supervision.json"
