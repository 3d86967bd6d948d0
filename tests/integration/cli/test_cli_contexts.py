"""Contexts, versions and the completion of names."""

from __future__ import annotations

import stat
import time
from dataclasses import replace

from mosaic_cli import completion
from mosaic_cli.context import Context, load, save
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic, lines


def test_a_context_is_chosen_by_option_environment_and_use(
    plane: FakeControlPlane, mosaic: Mosaic, home: Home, monkeypatch
) -> None:
    mine = StoredIdentity.load(home.root / "pki/operators/test")
    replace(mine, fleet_addresses=["127.0.0.1:1"]).save(home.root / "pki/operators/other")
    other = Context("other", ("127.0.0.1:1",), "pki/operators/other", tenant="ops")
    save(home, load(home).put(other, make_current=False))
    assert mosaic("context", "ls", "-o", "name").out == "test\nother\n"
    assert mosaic("host", "ls").code == 0
    assert mosaic("host", "ls", "--context", "other").code == 5
    monkeypatch.setenv("MOSAIC_CONTEXT", "other")
    assert mosaic("host", "ls").code == 5
    monkeypatch.delenv("MOSAIC_CONTEXT")
    assert mosaic("context", "use", "other").code == 0
    assert mosaic("host", "ls").code == 5
    assert load(home).current == "other"


def test_an_unknown_context_ends_with_3_and_the_nearest(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("context", "use", "tset")
    assert done.code == 3
    assert "known: test" in done.err


def test_the_configuration_keeps_what_others_wrote_and_is_closed_to_others(plane: FakeControlPlane, home: Home) -> None:
    home.config.write_text("# mine\nfuture: 1\n" + home.config.read_text(), encoding="utf-8")
    save(home, load(home).put(Context("b", ("x:1",), "pki/b"), make_current=True))
    assert home.config.read_text(encoding="utf-8").startswith("# mine\nfuture: 1\n")
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


def test_a_damaged_configuration_is_told_with_its_file(plane: FakeControlPlane, mosaic: Mosaic, home: Home) -> None:
    home.config.write_text("contexts: [}", encoding="utf-8")
    done = mosaic("fleet", "ps")
    assert done.code == 1
    assert str(home.config) in done.err
    assert len(lines(done.err)) <= 4


def test_show_tells_who_we_are_there_and_never_the_key(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("context", "show", "-o", "json")
    assert done.json["operator"] == "anna"
    assert done.json["trustDomain"] == "abcdefgh23456777.mosaic"
    assert "PRIVATE" not in done.out


def test_the_version_is_shown_though_no_cluster_answers(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    assert mosaic("version", "-o", "json").json["cluster"]["alias"] == "test"
    plane.stop()
    done = mosaic("version", "-o", "json")
    assert done.code == 0
    assert done.json["cluster"] is None


class Line:
    """A command line as the shell's completion hands it over."""

    params: dict[str, str] = {}  # noqa: RUF012


def test_names_are_completed_from_the_control_plane_and_then_from_the_cache(plane: FakeControlPlane) -> None:
    plane.add_host("build1")
    plane.add_host("build2")
    plane.add_agent("coder0")
    plane.add_agent("twin")
    plane.add_agent("twin", host="build2")
    assert completion.agents(Line(), "co") == ["coder0"]
    assert completion.agents(Line(), "") == ["build1/twin", "build2/twin", "coder0"]
    assert completion.agents(Line(), "build1/") == ["build1/coder0", "build1/twin"]
    assert completion.hosts(Line(), "build") == ["build1", "build2"]
    assert plane.calls.count("ListAgents") == 1


def test_completion_gives_up_after_300_ms(plane: FakeControlPlane) -> None:
    plane.before["ListAgents"] = lambda _context: plane.stopping.wait(10) and None
    began = time.monotonic()
    assert completion.agents(Line(), "") == []
    assert time.monotonic() - began < 1.0
