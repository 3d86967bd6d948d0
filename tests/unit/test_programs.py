"""A program is found where such programs are, with what it runs on, and nothing is executed to find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.programs import RuntimeNotInstalled, find_program, installed
from mosaic_framework.runtimes import read_manifest

NODE = "#!/usr/bin/env node\n"


def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def program(path: Path, script: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_path_comes_before_the_usual_places(tmp_path: Path) -> None:
    around = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}
    assert installed(manifest("pi"), around) is None
    local = program(tmp_path / ".local" / "bin" / "pi")
    assert installed(manifest("pi"), around) == str(local)
    first = program(tmp_path / "bin" / "pi")
    assert installed(manifest("pi"), around) == str(first)


@pytest.mark.parametrize(
    "place",
    [
        ".local/bin",
        ".npm-global/bin",
        ".nvm/versions/node/v20.1.0/bin",
        ".local/share/fnm/node-versions/v20.1.0/installation/bin",
        ".volta/bin",
        ".asdf/shims",
        ".local/share/mise/shims",
        ".pyenv/shims",
        ".bun/bin",
        ".local/share/pnpm",
        ".opencode/bin",
        ".claude/local",
        "bin",
    ],
)
def test_every_usual_place_below_the_home_is_looked_at_with_a_services_path(tmp_path: Path, place: str) -> None:
    there = program(tmp_path / place / "codex")
    found = find_program(manifest("codex"), {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert (found.program, found.folders) == (str(there), (str(there.parent),))
    assert found.path("/usr/bin:/bin") == f"{there.parent}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("variable", "below"),
    [("NVM_DIR", "versions/node/v9.0.0/bin"), ("VOLTA_HOME", "bin"), ("PNPM_HOME", ""), ("NPM_CONFIG_PREFIX", "bin")],
)
def test_a_variable_that_moves_a_place_is_followed(tmp_path: Path, variable: str, below: str) -> None:
    there = program(tmp_path / "elsewhere" / below / "codex")
    around = {"HOME": str(tmp_path), "PATH": "", variable: str(tmp_path / "elsewhere")}
    assert installed(manifest("codex"), around) == str(there)


@pytest.mark.parametrize("line", ["prefix=~/mine", "prefix = ${HOME}/mine", 'prefix="{home}/mine"'])
def test_the_prefix_of_a_users_npmrc_is_followed(tmp_path: Path, line: str) -> None:
    there = program(tmp_path / "mine" / "bin" / "codex")
    (tmp_path / ".npmrc").write_text(f"registry=x\n{line.replace('{home}', str(tmp_path))}\n")
    assert installed(manifest("codex"), {"HOME": str(tmp_path), "PATH": ""}) == str(there)


def test_of_several_versions_of_node_the_newest_that_has_the_program_counts(tmp_path: Path) -> None:
    for version in ("v9.0.0", "v20.2.0", "v18.1.0"):
        program(tmp_path / ".nvm" / "versions" / "node" / version / "bin" / "codex")
    (tmp_path / ".nvm" / "versions" / "node" / "v22.0.0" / "bin").mkdir(parents=True)
    found = installed(manifest("codex"), {"HOME": str(tmp_path), "PATH": ""})
    assert found == str(tmp_path / ".nvm/versions/node/v20.2.0/bin/codex")


def test_what_a_script_runs_on_is_found_too(tmp_path: Path) -> None:
    there = program(tmp_path / ".npm-global" / "bin" / "codex", NODE)
    node = program(tmp_path / ".volta" / "bin" / "node")
    found = find_program(manifest("codex"), {"HOME": str(tmp_path), "PATH": str(tmp_path / "none")})
    assert found.folders == (str(there.parent), str(node.parent))


def test_a_script_whose_interpreter_is_nowhere_is_one_clear_refusal(tmp_path: Path) -> None:
    there = program(tmp_path / ".local" / "bin" / "codex", "#!/usr/bin/env node-of-another-world\n")
    with pytest.raises(RuntimeNotInstalled) as caught:
        find_program(manifest("codex"), {"HOME": str(tmp_path), "PATH": ""})
    assert "node-of-another-world, which it runs on, is not found" in caught.value.what
    assert str(there) in caught.value.why


def test_a_runtime_that_is_not_there_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeNotInstalled) as caught:
        find_program(manifest("codex"), {"HOME": str(tmp_path), "PATH": ""})
    assert caught.value.next_step == "npm install -g @openai/codex"


def test_a_program_known_from_before_stays_while_it_is_there_and_is_found_again_when_it_moved(tmp_path: Path) -> None:
    old = program(tmp_path / ".nvm" / "versions" / "node" / "v18.0.0" / "bin" / "codex")
    new = program(tmp_path / ".nvm" / "versions" / "node" / "v20.0.0" / "bin" / "codex")
    around = {"HOME": str(tmp_path), "PATH": ""}
    assert find_program(manifest("codex"), around, known=str(old)).program == str(old)
    old.unlink()
    assert find_program(manifest("codex"), around, known=str(old)).program == str(new)


def test_a_file_that_cannot_run_is_no_program(tmp_path: Path) -> None:
    program(tmp_path / ".local" / "bin" / "pi").chmod(0o644)
    assert installed(manifest("pi"), {"HOME": str(tmp_path), "PATH": ""}) is None


def test_the_users_own_shell_is_taken_and_else_bash(tmp_path: Path) -> None:
    shell = manifest("shell")
    zsh = program(tmp_path / "zsh")
    assert installed(shell, {"SHELL": str(zsh), "PATH": os.defpath}) == str(zsh)
    for odd in ("", "zsh", "/usr/sbin/nologin", str(tmp_path / "fish")):
        found = installed(shell, {"SHELL": odd, "PATH": "/usr/bin:/bin"})
        assert found is not None
        assert found.endswith("/bash")


def test_looking_executes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for name in (".profile", ".bashrc", ".bash_profile", ".zshrc", ".zshenv"):
        (tmp_path / name).write_text(f"touch {trace}\n")
    program(tmp_path / ".local" / "bin" / "codex", f"#!/bin/sh\ntouch {trace}\n")
    find_program(manifest("codex"), {"HOME": str(tmp_path), "PATH": "", "SHELL": "/bin/bash"})
    assert not trace.exists()
