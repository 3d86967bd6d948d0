"""The wheel carries all that the programs need: packages, SQL, policy and data."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import ROOT, tracked_files

PACKAGES = {
    "mosaic_proto": "proto",
    "mosaic_framework": "framework",
    "mosaic_hostagent": "hostagent",
    "mosaic_controlplane": "controlplane",
    "mosaic_cli": "cli",
}
DATA = ("roles", "profiles", "presets", "runtimes", "units", "schema")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and nothing else of ours."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, timeout=60)
    return folder


def test_the_wheel_has_every_tracked_file_of_the_five_packages(wheel: Path) -> None:
    content = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT / folder).as_posix()
        for package, folder in PACKAGES.items()
        for path in tracked_files()
        if path.is_relative_to(ROOT / folder / package)
    }
    assert len(expected) > 20
    assert sorted(expected - content) == []


def test_the_wheel_has_every_tracked_data_file_where_an_installed_program_looks(wheel: Path) -> None:
    content = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"mosaic_framework/data/{path.relative_to(ROOT / 'framework').as_posix()}"
        for folder in DATA
        for path in tracked_files()
        if path.is_relative_to(ROOT / "framework" / folder)
    }
    assert expected
    assert sorted(expected - content) == []


def test_every_folder_that_the_build_includes_is_there_on_a_fresh_clone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    tracked = tracked_files()
    assert [folder for folder in included if not any(path.is_relative_to(ROOT / folder) for path in tracked)] == []


def test_an_installed_wheel_finds_its_sql_and_its_programs(installed: Path) -> None:
    program = """
import sys
sys.path = [path for path in sys.path if path != ""]
sys.path.insert(0, sys.argv[1])
from importlib import import_module, metadata, resources
for package in ("mosaic_proto.v1", "mosaic_framework", "mosaic_hostagent", "mosaic_controlplane", "mosaic_cli"):
    assert import_module(package).__file__.startswith(sys.argv[1]), package
from mosaic_controlplane.register import migrate, sql
register = resources.files("mosaic_controlplane.register")
for file in register.iterdir():
    if file.name.endswith(".sql") and file.name != "schema.sql":
        sql.load(file.name.removesuffix(".sql"))
assert register.joinpath("schema.sql").read_text()
assert migrate.migrations()
distribution = next(iter(metadata.distributions(path=[sys.argv[1]])))
print(sorted(entry.name for entry in distribution.entry_points))
"""
    # -S would hide the dependencies; the editable install is hidden by looking into `installed` first.
    done = subprocess.run(
        [sys.executable, "-c", program, str(installed)], cwd=installed, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['mosaic', 'mosaic-controlplane', 'mosaic-hostagent']"


def test_the_wheel_has_the_licence_and_no_test(wheel: Path) -> None:
    content = zipfile.ZipFile(wheel).namelist()
    assert [name for name in content if name.endswith("licenses/LICENSE")]
    assert [name for name in content if name.startswith(("tests", "bench", "script"))] == []
