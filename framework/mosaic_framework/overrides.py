"""A person's own contracts beside the shipped ones: making one, taking it back, and what changed underneath.

Beside `roles.local/<class>.md` lies `<class>.based-on.json`: the shipped contract that the override began as, with its
digest, so that a later update of the shipped one is noticed and can be shown. Updates never touch either file.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mosaic_framework.catalog import Catalog
from mosaic_framework.contracts import Contract, digest_of
from mosaic_framework.errors import Conflict, FleetError, NotFound
from mosaic_framework.roles import KIND, SUFFIX, get_contract, read_shipped_contract, resolve_class

BASE_SUFFIX = ".based-on.json"

Underneath = Literal["same", "changed", "unknown", "gone", "never"]


class OverrideUnwritable(FleetError):
    """The override cannot be written."""

    code = "override-unwritable"


class OverrideExists(Conflict):
    """There is an override already."""

    code = "override-exists"


@dataclass(frozen=True, slots=True)
class Base:
    """The shipped contract that an override began as."""

    digest: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """An override against the shipped contract.

    `underneath`: the shipped one is the `same` as when the override was made, has `changed`, is `gone`, was `never`
    there, or it is `unknown` (the override was not made by the tool). Diffs are unified, without line ends.
    """

    class_name: str
    shipped: Contract | None
    override: Contract
    base: Base | None
    underneath: Underneath

    def diff(self) -> list[str]:
        """Return what the override changes in the shipped contract as it is now."""
        return _diff(self.shipped.text if self.shipped else "", self.override.text, "shipped", "yours")

    def diff_underneath(self) -> list[str]:
        """Return what changed in the shipped contract since the override was made; empty where that is not known."""
        if self.base is None or self.underneath not in ("changed", "gone"):
            return []
        now = self.shipped.text if self.shipped else ""
        return _diff(self.base.text, now, "shipped when you began", "shipped now")


def override_path(catalog: Catalog, class_name: str) -> Path:
    """Return where the override of a class lies, or would. Raises NotFound: this catalog has no own layer."""
    folder = catalog.own_folder(KIND)
    if folder is None:
        raise NotFound("there is no place for own contracts here")
    return folder / f"{class_name}{SUFFIX}"


def begin_override(catalog: Catalog, class_name: str) -> Path:
    """Make the override of a class or alias as a copy of the shipped contract, and return its path.

    Raises NotFound with the nearest names, OverrideExists, OverrideUnwritable. What a person wrote is never replaced.
    """
    resolved = _resolved(catalog, class_name)
    path = override_path(catalog, resolved)
    shipped = read_shipped_contract(catalog, resolved)
    if shipped is None or path.exists():
        raise OverrideExists(f"{resolved} has a contract of yours already, {path}", next_step=f"edit {path}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_base(path, shipped)  # first: a base without an override does no harm
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(shipped.text)
    except FileExistsError as error:
        raise OverrideExists(f"{resolved} has a contract of yours already, {path}", next_step=f"edit {path}") from error
    except OSError as error:
        raise OverrideUnwritable(f"{path} cannot be written", why=error.strerror or str(error)) from error
    return path


def rebase_override(catalog: Catalog, class_name: str) -> None:
    """Take the shipped contract as it is now for the base of the override: its changes have been looked at.

    Raises NotFound: no override, or nothing shipped under it.
    """
    found = compare_override(catalog, class_name)
    if found.shipped is None:
        raise NotFound(f"there is no shipped contract of {found.class_name}")
    path = override_path(catalog, found.class_name)
    try:
        _write_base(path, found.shipped)
    except OSError as error:
        raise OverrideUnwritable(f"{path}'s base cannot be written", why=error.strerror or str(error)) from error


def end_override(catalog: Catalog, class_name: str) -> Path:
    """Remove the override of a class with its base, and return the path it had. Raises NotFound: there is none."""
    path = _existing(catalog, class_name)
    try:
        path.unlink()
        _base_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise OverrideUnwritable(f"{path} cannot be removed", why=error.strerror or str(error)) from error
    return path


def compare_override(catalog: Catalog, class_name: str) -> Comparison:
    """Return the override of a class or alias against the shipped contract. Raises NotFound: there is no override."""
    path = _existing(catalog, class_name)
    name = path.name.removesuffix(SUFFIX)
    override = get_contract(catalog, name)
    shipped = read_shipped_contract(catalog, name)
    base = _read_base(path)
    return Comparison(name, shipped, override, base, _underneath(shipped, base))


def _underneath(shipped: Contract | None, base: Base | None) -> Underneath:
    if shipped is None:
        return "never" if base is None else "gone"
    if base is None:
        return "unknown"
    return "same" if base.digest == shipped.digest else "changed"


def _existing(catalog: Catalog, class_name: str) -> Path:
    """Return the path of the override that there is; an override which cannot be parsed can still be removed."""
    resolved = _resolved(catalog, class_name)
    file = catalog.find(KIND, resolved, SUFFIX)
    if file is None or not file.own:
        raise NotFound(f"{resolved} has no contract of yours", next_step=f"begin one: mosaic persona edit {resolved}")
    return file.path


def _resolved(catalog: Catalog, class_name: str) -> str:
    """Return the class that a class or alias means, be its contract readable or not. Raises NotFound."""
    return resolve_class(catalog, class_name) or get_contract(catalog, class_name).class_name


def _base_path(override: Path) -> Path:
    return override.with_name(override.name.removesuffix(SUFFIX) + BASE_SUFFIX)


def _read_base(override: Path) -> Base | None:
    """Return the base, or None where there is none or where its text is not what its digest says."""
    try:
        data = json.loads(_base_path(override).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    text = data.get("text") if isinstance(data, dict) else None
    if not isinstance(text, str) or data.get("digest") != digest_of(text):
        return None
    return Base(data["digest"], text)


def _write_base(override: Path, shipped: Contract) -> None:
    content = json.dumps({"digest": shipped.digest, "text": shipped.text}, ensure_ascii=False, indent=1) + "\n"
    target = _base_path(override)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _diff(old: str, new: str, old_name: str, new_name: str) -> list[str]:
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))
