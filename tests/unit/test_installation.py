"""How an installation is told, and the command that upgrades it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from mosaic_cli.installation import Facts, classify, find

PIP = Facts("/venv/bin/python", "0.1.0", "pip", None, frozenset(), managed=False, has_pip=True)
EDITABLE = {"url": "file:///srv/mosaic", "dir_info": {"editable": True}}


def on_path(*programs: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in programs else None


@pytest.mark.parametrize(
    ("facts", "tool", "command"),
    [
        (
            PIP,
            "pip",
            "/venv/bin/python -m pip install --disable-pip-version-check --no-input --upgrade mosaic-fleet",
        ),
        (
            replace(PIP, installer="uv"),
            "uv",
            "/usr/bin/uv pip install --python /venv/bin/python --upgrade mosaic-fleet",
        ),
        (
            replace(PIP, installer="uv", marks=frozenset({"uv-receipt.toml"})),
            "uv tool",
            "/usr/bin/uv tool upgrade mosaic-fleet",
        ),
        (replace(PIP, marks=frozenset({"pipx_metadata.json"})), "pipx", "/usr/bin/pipx upgrade mosaic-fleet"),
        # pipx can use uv underneath: the mark of pipx decides
        (
            replace(PIP, installer="uv", marks=frozenset({"pipx_metadata.json"})),
            "pipx",
            "/usr/bin/pipx upgrade mosaic-fleet",
        ),
    ],
)
def test_the_tool_that_installed_it_upgrades_it(facts: Facts, tool: str, command: str) -> None:
    found = classify(facts, on_path("uv", "pipx"))
    assert (found.tool, " ".join(found.command())) == (tool, command)
    for source in ("", "new.whl"):
        for again in (False, True):
            last = found.command(source=source, again=again)[-1]
            assert last == (source or "mosaic-fleet")


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (None, "source files"),
        (
            replace(PIP, direct_url=EDITABLE),
            "the checkout /srv/mosaic: update that (git pull), then run script/bootstrap",
        ),
        (replace(PIP, installer="conda"), "installed by conda"),
        (replace(PIP, installer=""), "an unknown tool"),
        (replace(PIP, installer="uv"), "by uv, which is not found here"),
        (replace(PIP, managed=True), "takes no pip"),
        (replace(PIP, has_pip=False), "ensurepip"),
    ],
)
def test_what_no_tool_here_can_upgrade_says_what_to_do_instead(facts: Facts | None, advice: str) -> None:
    found = classify(facts, on_path())
    assert found.tool == ""
    assert advice in found.advice


def test_an_upgrade_that_was_broken_off_believes_nothing_that_seems_installed() -> None:
    again = classify(PIP, on_path()).command(again=True)
    assert "--force-reinstall" in again


def test_the_installation_under_test_is_told_as_it_is() -> None:
    found = find()
    assert found.version
    assert bool(found.tool) != bool(found.advice)
