"""The catalog: where shipped data files are, and the user's own files that win over them.

Shipped data lies in `framework/<kind>/` of a checkout, or in `mosaic_framework/data/<kind>/` of an installed wheel. A
user's own layer is `$MOSAIC_HOME/fleet/<kind>.local/`, for the kinds that people may write themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.errors import FleetError, InvalidInput, NotFound
from mosaic_framework.names import check_name, nearest
from mosaic_framework.paths import Home

KINDS = ("roles", "profiles", "presets", "runtimes", "units", "schema")
OWN_KINDS = ("roles", "profiles", "presets", "runtimes")
FILE_LIMIT = 1024 * 1024


class DataMissing(FleetError):
    """The data files that belong to this program were not found."""

    code = "data-missing"
    hint = "install it again: pip install --force-reinstall mosaic-fleet"


class DataUnreadable(InvalidInput):
    """A data file cannot be read."""

    code = "data-unreadable"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of the catalog. `own`: it is from the user's own layer."""

    kind: str
    name: str
    path: Path
    own: bool

    def read(self) -> str:
        """Return the text. Raises DataUnreadable: not there, not UTF-8, over 1 MiB."""
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_LIMIT + 1)
        except OSError as error:
            raise DataUnreadable(f"{self.path} cannot be read", why=error.strerror or str(error)) from error
        if len(content) > FILE_LIMIT:
            raise DataUnreadable(f"{self.path} is too large", why=f"a data file has at most {FILE_LIMIT} bytes")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataUnreadable(f"{self.path} is not text in UTF-8", why=f"at byte {error.start}") from error


@dataclass(frozen=True, slots=True)
class Catalog:
    """Shipped data under `shipped`, and the user's own layer under `own` (a `fleet` folder; None: no such layer)."""

    shipped: Path
    own: Path | None = None

    @classmethod
    def open(cls, home: Home | None = None) -> Catalog:
        """Return the catalog of this installation with the layer of `home` (default: from the environment)."""
        return cls(shipped_data(), (home or Home.from_environment()).fleet)

    def folder(self, kind: str) -> Path:
        """Return the folder of the shipped files of `kind`."""
        return self.shipped / _known(kind)

    def own_folder(self, kind: str) -> Path | None:
        """Return the user's own folder for `kind`, which may not exist; None where there is no such layer."""
        return self.own / f"{kind}.local" if self.own is not None and _known(kind) in OWN_KINDS else None

    def files(self, kind: str, suffix: str) -> dict[str, DataFile]:
        """Return the files of `kind` with that suffix (".yaml") by stem, sorted; a user's own one wins."""
        found = _scan(self.folder(kind), kind, suffix, own=False)
        own = self.own_folder(kind)
        if own is not None:
            found |= _scan(own, kind, suffix, own=True)
        return dict(sorted(found.items()))

    def find(self, kind: str, name: str, suffix: str) -> DataFile | None:
        """Return the file `<name><suffix>` of `kind`, the user's own first, or None."""
        if not _is_stem(name):
            return None
        own = self.own_folder(kind)
        if own is not None and (own / f"{name}{suffix}").is_file():
            return DataFile(kind, name, own / f"{name}{suffix}", own=True)
        return self.find_shipped(kind, name, suffix)

    def find_shipped(self, kind: str, name: str, suffix: str) -> DataFile | None:
        """Return the shipped file `<name><suffix>` of `kind`, whatever the user's own layer has, or None."""
        path = self.folder(kind) / f"{name}{suffix}"
        return DataFile(kind, name, path, own=False) if _is_stem(name) and path.is_file() else None

    def get(self, kind: str, name: str, suffix: str) -> DataFile:
        """Return the file `<name><suffix>` of `kind`. Raises NotFound with the nearest names."""
        file = self.find(kind, name, suffix)
        if file is None:
            known = self.files(kind, suffix)
            near = nearest(name, known)
            shown = ", ".join(near or known)
            raise NotFound(
                f"there is no {kind.removesuffix('s')} {name[:80]!r}",
                why=f"{'the nearest' if near else 'there are'}: {shown}" if shown else "",
                details={"nearest": ",".join(near)},
            )
        return file


def shipped_data() -> Path:
    """Return the folder that holds `<kind>/` for each kind. Raises DataMissing."""
    package = Path(__file__).resolve().parent
    for folder in (package / "data", package.parent):
        if all((folder / kind).is_dir() for kind in ("roles", "runtimes", "schema")):
            return folder
    raise DataMissing(why=f"neither {package / 'data'} nor {package.parent} has them")


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"no such kind of data: {kind}")
    return kind


def _is_stem(name: str) -> bool:
    """Return whether `name` may be a file's stem: a plain name, so that no name leads out of the folder."""
    try:
        check_name(name, what="file")
    except InvalidInput:
        return False
    return True


def _scan(folder: Path, kind: str, suffix: str, *, own: bool) -> dict[str, DataFile]:
    try:
        paths = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataUnreadable(f"{folder} cannot be read", why=error.strerror or str(error)) from error
    stems = {path.name.removesuffix(suffix): path for path in paths if path.name.endswith(suffix) and path.is_file()}
    return {stem: DataFile(kind, stem, path, own=own) for stem, path in stems.items() if _is_stem(stem)}
