"""Re-seeding done: reads what is shipped and what a person has, writes what is to be refreshed, then records it.

Killed anywhere, the next run completes it: each file is replaced whole, a finished one is recognised, and the record
($MOSAIC_HOME/state/shipped.json) is written last.
"""

from __future__ import annotations

import json
from pathlib import Path

from mosaic_framework import __version__
from mosaic_framework.catalog import KINDS, OWN_KINDS, Catalog
from mosaic_framework.contracts import is_class_name
from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.overrides import compare_override, rebase_override
from mosaic_framework.paths import Home, write_private
from mosaic_framework.roles import SUFFIX as ROLE_SUFFIX
from mosaic_framework.roster_write import replace_file
from mosaic_framework.shipped import OWN_SUFFIX, SEEDED_KIND, Copy, Refresh, Reseeding, Seen, digest, plan_reseeding
from mosaic_framework.steps import reached


def reseed(home: Home, catalog: Catalog, *, dry_run: bool = False, only_seed: bool = False) -> Reseeding:
    """Bring a person's untouched copies up to date, record what is shipped now, and return what was done.

    `dry_run`: write nothing. `only_seed`: just make sure that the schemas are there; an existing record stays, so that
    the next update still tells what changed.
    """
    now = inventory(catalog)
    seen = read_seen(home)
    plan = plan_reseeding(now, seen, copies_of(home, catalog, now, seen), seed=home.fleet.is_dir())
    if dry_run:
        return plan
    for refresh in plan.refreshes:
        if not only_seed or refresh.place.startswith(f"{SEEDED_KIND}/"):
            _write(home, catalog, refresh)
            reached("mosaic.reseed-file")
    if seen is None or not only_seed:
        reached("mosaic.reseed-record")
        _record(home, Seen(__version__, now))
    return plan


def inventory(catalog: Catalog) -> dict[str, str]:
    """Return every shipped file as "<kind>/<name>" → digest, sorted."""
    files = (path for kind in KINDS for path in sorted(catalog.folder(kind).glob("*")))
    return {
        f"{path.parent.name}/{path.name}": digest(path.read_bytes())
        for path in files
        if path.is_file() and not path.name.startswith(".")
    }


def copies_of(home: Home, catalog: Catalog, now: dict[str, str], seen: Seen | None) -> list[Copy]:
    """Return the files of a person's folders which have the name that a shipped file has, or had when last seen."""
    known = {**(seen.files if seen is not None else {}), **now}
    found = []
    for shipped in sorted(known):
        kind, _, name = shipped.partition("/")
        if kind not in (*OWN_KINDS, SEEDED_KIND):
            continue
        place = shipped if kind == SEEDED_KIND else f"{kind}{OWN_SUFFIX}/{name}"
        path = home.fleet / place
        if path.is_file():
            # A link leads to where the person keeps it: whatever it says, it is theirs.
            content = "link" if path.is_symlink() else digest(path.read_bytes())
            found.append(Copy(place, shipped, content, _base(catalog, kind, name)))
    return found


def read_seen(home: Home) -> Seen | None:
    """Return the record of the last look, or None: there is none, or it cannot be used."""
    try:
        data = json.loads(_seen_path(home).read_text("utf-8"))
        return Seen(str(data["version"]), {str(file): str(value) for file, value in data["files"].items()})
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # without it nothing counts as untouched: the careful side


def _record(home: Home, seen: Seen) -> None:
    content = json.dumps({"version": seen.version, "files": dict(seen.files)}, indent=1) + "\n"
    write_private(_seen_path(home), content.encode())


def _seen_path(home: Home) -> Path:
    return home.state / "shipped.json"


def _base(catalog: Catalog, kind: str, name: str) -> str:
    """Return the digest of the shipped contract that an own one began as; empty where that is not known."""
    stem = name.removesuffix(ROLE_SUFFIX)
    if kind != "roles" or not name.endswith(ROLE_SUFFIX) or not is_class_name(stem):
        return ""
    try:
        found = compare_override(catalog, stem)
    except (InvalidInput, NotFound):  # none, or one that cannot be read, which is no untouched copy
        return ""
    return found.base.digest if found.base is not None else ""


def _write(home: Home, catalog: Catalog, refresh: Refresh) -> None:
    path = home.fleet / refresh.place
    if not refresh.base_only:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, (catalog.shipped / refresh.shipped).read_bytes())
    kind, _, name = refresh.shipped.partition("/")
    if _base(catalog, kind, name):
        rebase_override(catalog, name.removesuffix(ROLE_SUFFIX))
