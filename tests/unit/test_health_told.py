"""Which process the file speaks of that says where a program can be asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mosaic_framework import health
from mosaic_framework.paths import Home, private_folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(private_folder(tmp_path / "home"))
    private_folder(home.run)
    return home


def test_the_process_that_wrote_it_is_known_and_a_later_one_of_its_number_is_not(home: Home) -> None:
    health.tell_address(home, "hostagent", "127.0.0.1:1")
    assert health.process_told(home, "hostagent") == os.getpid()
    os.utime(health.address_file(home, "hostagent"), (0, 0))
    assert health.process_told(home, "hostagent") is None


@pytest.mark.parametrize(
    "content", ["", "[]", "5", '{"pid": null}', '{"pid": 1e400}', '{"pid": -1}', '{"pid": 99999999999}']
)
def test_rubbish_speaks_of_nobody(home: Home, content: str) -> None:
    health.address_file(home, "hostagent").write_text(content)
    assert health.process_told(home, "hostagent") is None
