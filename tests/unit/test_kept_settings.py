"""What `mosaic fleet install` hands to the control plane's unit of the shell in which it was run."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_cli import install_controlplane
from mosaic_controlplane import config
from mosaic_framework import units
from mosaic_framework.paths import Home, private_folder


def test_every_variable_of_the_control_plane_goes_with_it_into_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(private_folder(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in config.VARIABLES.values():
        monkeypatch.setenv(variable, "4711")
    text = install_controlplane.texts(home)[units.controlplane_file(home)]
    assert [name for name in config.VARIABLES.values() if f'{name}="4711"' not in text] == []
