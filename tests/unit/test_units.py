"""Names and texts of units: what systemd itself would write, whatever an agent or a folder is called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.names import NAME_LIMIT
from mosaic_framework.paths import Home

NAMES = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


@given(NAMES, NAMES)
def test_an_agents_unit_has_a_valid_name_of_its_own(one: str, other: str) -> None:
    assert len(units.agent_unit(one)) <= 255
    assert (units.agent_unit(one) == units.agent_unit(other)) == (one == other)


def test_the_longest_name_of_characters_that_are_all_escaped_fits() -> None:
    name = "x" + "-" * (NAME_LIMIT - 1)
    assert len(units.agent_unit(name)) <= 255
    assert "/" not in units.instance_of(name)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd is not installed")
@pytest.mark.parametrize("text", ["plain", "a-b", ".hidden", "a.b-c_D:e", "blank and ü", "per%cent", "x" * 64])
def test_names_are_escaped_as_systemd_does_it(text: str) -> None:
    said = subprocess.run(["systemd-escape", "--", text], capture_output=True, text=True, check=True).stdout.strip()
    assert units.escape(text) == said


def test_a_home_with_any_characters_arrives_in_the_units_as_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path / 'a b"c$d%e\\f')
    texts = units.unit_texts(home, python="/opt/py thon", hostagent="/opt/a$b", catalog=Catalog.open())
    agent = texts[units.AGENT_TEMPLATE]
    assert f'ExecStart="/opt/py thon" -I -m mosaic_hostagent.units.waiter "{tmp_path}/a b\\"c$$d%%e\\\\f" "%I"' in agent
    assert 'ExecStart="/opt/a$$b" serve' in texts[units.HOSTAGENT]
    for text in texts.values():
        assert "{" not in text.replace("${", "")


def test_variables_with_line_breaks_are_left_out_and_others_quoted() -> None:
    text = units.environment_text({"A": 'x "y" $z', "B": "one\ntwo"})
    assert text == 'A="x \\"y\\" \\$z"\n'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_any_unit(tmp_path: Path) -> None:
    home, catalog = Home(tmp_path / "a home"), Catalog.open()
    texts = units.unit_texts(home, python="/bin/true", hostagent="/bin/true", catalog=catalog)
    texts |= units.controlplane_texts(home, controlplane="/bin/true", catalog=catalog)
    names = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        names.append(name.replace("@.", "@x."))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=yes", *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
