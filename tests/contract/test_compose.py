"""compose/: valid by the Compose specification's own schema, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.checkout import ROOT

FILE = ROOT / "compose" / "compose.yaml"
SITES = ("east", "west")


def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(FILE.read_text())["services"]
    return found


def test_the_file_is_valid_by_the_schema_of_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_what_is_no_key_of_a_service() -> None:
    broken = FILE.read_text().replace("restart: unless-stopped", "restarts: unless-stopped", 1)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "-"]
    assert subprocess.run(command, input=broken, capture_output=True, text=True, check=False).returncode == 1


@pytest.mark.parametrize("site", SITES)
def test_a_site_has_a_register_a_control_plane_and_a_host_on_a_network_of_its_own(site: str) -> None:
    mine = {name: one for name, one in services().items() if name.startswith(f"{site}-")}
    assert set(mine) == {f"{site}-{part}" for part in ("postgres", "controlplane", "hostagent")}
    assert all(one["networks"] == [site] for one in mine.values())
    assert f"@{site}-postgres:5432/" in mine[f"{site}-controlplane"]["environment"]["MOSAIC_DATABASE_URL"]


def test_no_password_is_in_the_file_and_no_port_is_open_to_other_machines() -> None:
    text = FILE.read_text()
    assert not re.search(r"PASSWORD: (?!\$\{)", text)
    published = [port for one in services().values() for port in one.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_target_and_file_that_is_named_is_there() -> None:
    containerfile = (ROOT / "compose" / "Containerfile").read_text()
    targets = {one["build"]["target"] for one in services().values() if "build" in one}
    assert targets == {"controlplane", "hostagent"}
    for target in targets:
        assert f"FROM base AS {target}" in containerfile
    context = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    assert [name for name in context if not (ROOT / name).exists()] == []
    packages = [f"{name}/" for name in context]
    built = re.findall(r'^  "(\w+/)mosaic_\w+",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert built
    assert set(built) <= set(packages)
