"""Runtimes: manifests are data, a user's own counts, and a program is found where such programs are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import NotFound
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import (
    ManifestInvalid,
    VersionUnknown,
    known_runtimes,
    parse_manifest,
    read_manifest,
    read_version,
    was_measured,
)
from ruamel.yaml import YAML

SHIPPED = ["claude", "codex", "opencode", "pi", "shell"]
AIDER = "name: aider\ntitle: aider\nprogram: aider\ncomposer: {kind: box, glyph: '^> '}\nreset_command: /clear\n"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "fleet" / "runtimes.local").mkdir(parents=True)
    return Catalog(Catalog.open().shipped, tmp_path / "fleet")


def own(catalog: Catalog, name: str, text: str) -> None:
    folder = catalog.own_folder("runtimes")
    assert folder is not None
    (folder / f"{name}.yaml").write_text(text)


def program(path: Path, script: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_the_five_shipped_manifests_are_valid(catalog: Catalog) -> None:
    assert known_runtimes(catalog) == SHIPPED
    assert [read_manifest(catalog, name).name for name in SHIPPED] == SHIPPED


def test_reset_commands_are_those_that_each_program_understands(catalog: Catalog) -> None:
    found = {name: read_manifest(catalog, name).reset_command for name in SHIPPED}
    assert found == {"claude": "/clear", "codex": "/clear", "opencode": "/clear", "pi": "/new", "shell": None}


def test_only_a_shell_gets_no_preamble_and_none_claims_more_than_it_can_show(catalog: Catalog) -> None:
    manifests = [read_manifest(catalog, name) for name in SHIPPED]
    assert [manifest.name for manifest in manifests if not manifest.preamble] == ["shell"]
    assert {manifest.strongest_step for manifest in manifests} == {"submitted"}


def test_a_manifest_that_a_user_drops_in_is_a_runtime(catalog: Catalog) -> None:
    own(catalog, "aider", AIDER)
    assert "aider" in known_runtimes(catalog)
    assert read_manifest(catalog, "aider").reset_command == "/clear"


def test_a_users_own_manifest_wins_over_the_shipped_one(catalog: Catalog) -> None:
    own(catalog, "pi", "name: pi\ntitle: my pi\nprogram: pi\ncomposer: {kind: box}\n")
    assert read_manifest(catalog, "pi").title == "my pi"


def test_a_broken_manifest_is_told_with_every_problem_and_breaks_no_other(catalog: Catalog) -> None:
    own(catalog, "aider", "name: other\nprogam: aider\ncomposer: {kind: box, glyph: '('}\n")
    with pytest.raises(ManifestInvalid) as caught:
        read_manifest(catalog, "aider")
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (1, "title"),
        (1, "program"),
        (2, "progam"),
        (3, "composer.glyph"),
    ]
    assert read_manifest(catalog, "pi").name == "pi"


def test_a_manifest_has_its_files_name(catalog: Catalog) -> None:
    with pytest.raises(ManifestInvalid, match="runtime manifest"):
        parse_manifest(AIDER, source="x.yaml", name="x")


def test_an_unknown_runtime_is_told_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(NotFound) as caught:
        read_manifest(catalog, "claud")
    assert caught.value.why == "the nearest: claude"


def test_a_host_reads_back_the_manifest_that_it_is_sent_also_from_a_newer_cluster(catalog: Catalog) -> None:
    manifest = read_manifest(catalog, "claude").model_copy(update={"notes": None})  # they go beside it, once a seat
    assert Manifest.from_json(manifest.as_json()) == manifest
    assert Manifest.from_json(manifest.as_json()[:-1] + ',"later":1}') == manifest


def test_a_version_is_read_from_the_stream_the_program_uses(catalog: Catalog, tmp_path: Path) -> None:
    talker = program(tmp_path / "pi", "#!/bin/sh\necho noise 9.9.9\necho 'pi 0.73.1 (x)' >&2\n")
    manifest = read_manifest(catalog, "pi")
    assert read_version(manifest, str(talker)) == "0.73.1"
    assert was_measured(manifest, "0.73.1")
    assert not was_measured(manifest, "0.74.0")


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello >&2\n", "#!/nowhere/sh\n"])
def test_a_program_that_does_not_say_its_version_is_told(catalog: Catalog, tmp_path: Path, script: str) -> None:
    with pytest.raises(VersionUnknown):
        read_version(read_manifest(catalog, "pi"), str(program(tmp_path / "pi", script)))


SCREENS = YAML(typ="safe").load(Path(__file__).parent.parent / "support" / "runtime_screens.yaml")


def seen(manifest: Manifest, state: str, screen: str) -> bool:
    signs = [sign for sign in getattr(manifest.signs, state) if sign.where == "screen"]
    return any(re.search(sign.pattern, screen, re.MULTILINE) for sign in signs)


@pytest.mark.parametrize("name", SCREENS["ready"])
def test_an_empty_composer_is_ready_and_neither_working_nor_waiting(catalog: Catalog, name: str) -> None:
    manifest = read_manifest(catalog, name)
    assert seen(manifest, "ready", SCREENS["ready"][name])
    assert not seen(manifest, "working", SCREENS["ready"][name])
    assert not seen(manifest, "waiting", SCREENS["ready"][name])


@pytest.mark.parametrize(
    ("name", "screen"), [(name, screen) for name, screens in SCREENS["waiting"].items() for screen in screens]
)
def test_a_dialog_is_waiting_and_never_ready(catalog: Catalog, name: str, screen: str) -> None:
    manifest = read_manifest(catalog, name)
    assert seen(manifest, "waiting", screen)
    assert not seen(manifest, "ready", screen)


@pytest.mark.parametrize("name", SCREENS["working"])
def test_a_running_turn_is_working(catalog: Catalog, name: str) -> None:
    assert seen(read_manifest(catalog, name), "working", SCREENS["working"][name])


@pytest.mark.parametrize("name", SCREENS["collapsed"])
def test_a_collapsed_paste_is_known(catalog: Catalog, name: str) -> None:
    placeholder = read_manifest(catalog, name).composer.placeholder
    assert placeholder is not None
    assert re.search(placeholder, SCREENS["collapsed"][name])


def test_codex_tells_its_state_in_the_title(catalog: Catalog) -> None:
    signs = read_manifest(catalog, "codex").signs
    working, waiting = (
        next(sign.pattern for sign in found if sign.where == "title") for found in (signs.working, signs.waiting)
    )
    assert re.search(working, "⠼ src")
    assert not re.search(working, "src")
    assert re.search(waiting, "[ ! ] Action Required")
