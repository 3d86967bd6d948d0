"""How this program was installed, and the command that upgrades it. `classify` is pure; `find` reads what it needs."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

DISTRIBUTION = "mosaic-fleet"


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be seen of an installation.

    `installer`: the INSTALLER file's word. `direct_url`: PEP 610, where it did not come from an index. `marks`: files
    that a tool leaves at the top of its environment. `managed`: the system's own Python, closed to pip (PEP 668).
    """

    python: str
    version: str
    installer: str
    direct_url: Mapping[str, Any] | None
    marks: frozenset[str]
    managed: bool
    has_pip: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """`tool` is empty where no tool can upgrade it; `advice` then says what to do instead."""

    version: str
    tool: str = ""
    advice: str = ""
    python: str = ""
    program: str = ""

    def command(self, *, source: str = "", again: bool = False) -> list[str]:
        """Return what upgrades it, from the index or from `source` (a wheel, a folder, an address).

        `again`: an earlier run was broken off, so that nothing that seems to be installed is to be believed.
        """
        wanted = source or DISTRIBUTION
        if self.tool == "pip":
            quiet = ["--disable-pip-version-check", "--no-input"]
            force = ["--force-reinstall", "--no-deps"] if again else []
            return [self.python, "-m", "pip", "install", *quiet, "--upgrade", *force, wanted]
        if self.tool == "uv":
            force = ["--reinstall-package", DISTRIBUTION] if again else []
            return [self.program, "pip", "install", "--python", self.python, "--upgrade", *force, wanted]
        if self.tool == "uv tool":
            if source or again:
                return [self.program, "tool", "install", "--force", "--upgrade", wanted]
            return [self.program, "tool", "upgrade", DISTRIBUTION]
        if source or again:
            return [self.program, "install", "--force", wanted]
        return [self.program, "upgrade", DISTRIBUTION]


def classify(facts: Facts | None, which: Callable[[str], str | None]) -> Installation:
    """Return how it was installed. `facts` None: it runs from source files, not installed at all."""
    if facts is None:
        return Installation("", advice="it runs from its source files: update those")
    came_from = facts.direct_url or {}
    if came_from.get("dir_info", {}).get("editable"):
        where = str(came_from.get("url", "")).removeprefix("file://")
        advice = f"it is installed from the checkout {where}: update that (git pull), then run script/bootstrap there"
        return Installation(facts.version, advice=advice)
    tool = _tool(facts)
    program = which(tool.split()[0]) if tool in ("uv", "uv tool", "pipx") else facts.python
    if not tool:
        name = facts.installer or "an unknown tool"
        return Installation(facts.version, advice=f"it was installed by {name}: upgrade it with that")
    if program is None:
        return Installation(
            facts.version, advice=f"it was installed by {tool}, which is not found here: upgrade with that"
        )
    if tool == "pip" and facts.managed:
        advice = "it is in the system's own Python, which takes no pip: install it with pipx or uv instead"
        return Installation(facts.version, advice=advice)
    if tool == "pip" and not facts.has_pip:
        advice = f"it was installed by pip, which {facts.python} does not have any more: {facts.python} -m ensurepip"
        return Installation(facts.version, advice=advice)
    return Installation(facts.version, tool, "", facts.python, program)


def find() -> Installation:
    """Return how this very program was installed."""
    return classify(_facts(), shutil.which)


def _tool(facts: Facts) -> str:
    if "uv-receipt.toml" in facts.marks:
        return "uv tool"
    if "pipx_metadata.json" in facts.marks:
        return "pipx"
    return facts.installer if facts.installer in ("pip", "uv") else ""


def _facts() -> Facts | None:
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
    direct = found.read_text("direct_url.json")
    prefix = Path(sys.prefix)
    marks = frozenset(name for name in ("uv-receipt.toml", "pipx_metadata.json") if (prefix / name).is_file())
    closed = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return Facts(
        python=sys.executable,
        version=found.version,
        installer=(found.read_text("INSTALLER") or "").strip(),
        direct_url=json.loads(direct) if direct else None,
        marks=marks,
        managed=sys.prefix == sys.base_prefix and closed.is_file(),
        has_pip=util.find_spec("pip") is not None,
    )
