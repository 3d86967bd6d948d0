"""The places at which a test kills a process: named in the product, and without a switch there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mosaic_framework import steps

from tests.support.checkout import ROOT

PACKAGES = ("cli/mosaic_cli", "controlplane/mosaic_controlplane", "hostagent/mosaic_hostagent", "framework")


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_in_the_product_can_set_what_watches_the_places(package: str) -> None:
    own = Path(steps.__file__).resolve()
    users = [file for file in (ROOT / package).rglob("*.py") if "_observer" in file.read_text() and file != own]
    assert users == []


@pytest.mark.parametrize("program", ["mosaic_cli.main", "mosaic_controlplane.main", "mosaic_hostagent.main"])
def test_a_program_without_a_tests_launcher_passes_its_places_unwatched(program: str) -> None:
    code = f"import {program}; from mosaic_framework import steps; steps.reached('any'); print(steps._observer)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
