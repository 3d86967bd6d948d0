"""What a roster says of a seat arrives at its program as data, byte for byte, on a real tmux, whoever supervises.

A stand-in for the program writes down its arguments and its environment.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.launch import ARGUMENT_LIMIT
from mosaic_framework.manifest import Manifest
from mosaic_framework.seeding import compose
from mosaic_proto.v1.seeding_pb2 import Briefing, BriefingText, Peer

from tests.support.hostagent import World
from tests.support.launched import Seats

_SIGNALS = {"OPENCODE_CONFIG_DIR"}
"""Variables by which a program is made to tell what it does."""
RUNTIMES = ["claude", "codex", "pi", "opencode", "shell"]


def launched_by(runtimes: list[str], *, by_systemd: list[str]) -> pytest.MarkDecorator:
    """Each runtime as the host-agent starts it, and some by systemd, which gets the same launch by another way."""
    ways = [("built-in", runtime) for runtime in runtimes] + [("systemd", runtime) for runtime in by_systemd]
    return pytest.mark.parametrize(("world", "runtime"), ways, indirect=["world"])


@pytest.fixture
async def seats(world: World, tmp_path: Path, manifest: Callable[[str], Manifest]) -> Seats:
    world.start()
    return Seats(world, tmp_path, manifest)


def briefing(text: str) -> Briefing:
    names = ("contract", "soul", "user", "tools", "mission")
    return Briefing(
        texts=[BriefingText(name=name, text=text, digest="d") for name in names],
        peers=[Peer(host="web1", name="lead", alias=text, summary=text, **{"class": "orchestrator"})],
    )


def arguments(runtime: str, *, folder: str, session: Path, seed: str, text: str) -> list[Any]:
    """What each program's manifest makes of a model, consent and a contract, written out."""
    match runtime:
        case "claude":
            return [
                *("--settings", str(session / "claude-settings.json"), "--model", text),
                *("--dangerously-skip-permissions", "--append-system-prompt", seed),
            ]
        case "codex":
            trust = {"projects": {folder: {"trust_level": "trusted"}}}
            return [
                *("-c", "check_for_update_on_startup=false", "-c", "analytics={enabled=false}", "-m", text),
                *("--dangerously-bypass-approvals-and-sandbox", "-c", trust, "-c", {"developer_instructions": seed}),
            ]
        case "pi":
            return ["--model", text, "--append-system-prompt", seed]
        case "opencode":
            return ["-m", text, "--auto"]
        case _:
            return []


def environment(runtime: str, *, session: Path) -> dict[str, Any]:
    """What each program's manifest adds to the environment of an unattended seat, written out."""
    match runtime:
        case "claude":
            return {
                "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
                "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "200000",
                "DISABLE_AUTOUPDATER": "1",
            } | ({"IS_SANDBOX": "1"} if os.getuid() == 0 else {})
        case "pi":
            return {"PI_OFFLINE": "1", "PI_TELEMETRY": "0"}
        case "opencode":
            content = {"autoupdate": False, "share": "disabled", "instructions": [str(session / "seed.md")]}
            return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_CONFIG_CONTENT": content}
        case _:
            return {}


def read(argument: str, wanted: object) -> object:
    """Return an argument or variable as the language that `wanted` is meant in: text, TOML or JSON."""
    if not isinstance(wanted, dict):
        return argument
    return json.loads(argument) if argument.startswith("{") else tomllib.loads(argument)


@launched_by(RUNTIMES, by_systemd=["claude", "shell"])
async def test_every_field_arrives_as_data(seats: Seats, runtime: str) -> None:
    base = await seats.base()
    program, text = seats.stand_in(runtime), seats.text
    folder = seats.folder / "w;d $(id) 'q' \"d\" \u00fc\n#{pid}"
    folder.mkdir()
    own = {"A": text, "UNI": "\u00fc\U0001f600", "EMPTY": ""}
    if runtime == "shell":
        own["SHELL"] = str(program.path)
    told = {"contract": text, "persistent_persona": text, "runtime_notes": text, "alias": text, "reports_to": text}
    started = await seats.launched(
        program,
        briefing(text),
        runtime=runtime,
        working_directory=str(folder),
        model=text,
        unattended=True,
        args=["-x", text, "", "--", "$HOME"],
        env=own,
        host="web1",
        **told,
        **{"class": text},
    )
    seat = seats.resident.seat
    seed = compose(seat.spec, seat.briefing, seats.manifest(runtime)).text
    session = Path(started.env.get("MOSAIC_SEED_FILE", "/none/seed.md")).parent

    first = arguments(runtime, folder=str(folder), session=session, seed=seed, text=text)
    last = ["-x", text, "", "--", "$HOME"]
    end = len(started.argv) - len(last)
    assert started.argv[0] == str(program.path)
    assert [read(*pair) for pair in zip(started.argv[1 : len(first) + 1], first, strict=True)] == first
    assert started.argv[end:] == last
    # What makes a program tell what it does stands between: fixed words, with nothing of the roster in them.
    assert not any(text in word for word in started.argv[len(first) + 1 : end])
    assert started.folder == str(folder)
    if runtime != "shell":
        assert seed.count(text) >= 8
        assert (session / "seed.md").read_text() == seed

    adds = {**environment(runtime, session=session), **own, "SITE": text}
    adds |= {name: started.env[name] for name in _SIGNALS & started.env.keys()}
    adds |= {"PATH": f"{program.path.parent}:{base['PATH']}", "PWD": str(folder)}
    changed = {
        name: read(value, adds.get(name))
        for name, value in started.env.items()
        if base.get(name) != value and not name.startswith(("MOSAIC_", "TMUX"))
    }
    assert changed == {name: value for name, value in adds.items() if base.get(name) != value}
    assert base.keys() <= started.env.keys()
    assert not seats.trace.exists()


@launched_by(["claude", "opencode"], by_systemd=["claude"])
async def test_a_command_of_ones_own_arrives_as_it_is_and_finds_its_contract_in_a_file(
    seats: Seats, runtime: str
) -> None:
    program = seats.stand_in("wrapper")
    words = [str(program.path), seats.text, "", "-x"]
    started = await seats.launched(program, briefing("Be kind."), runtime=runtime, command=words, model="m", args=["y"])
    assert started.argv == words
    assert "Be kind." in Path(started.env["MOSAIC_SEED_FILE"]).read_text()


@launched_by(["claude", "codex", "pi"], by_systemd=["claude"])
async def test_a_long_contract_still_arrives_whole(seats: Seats, runtime: str) -> None:
    contract = ("x" * 63 + "\n") * 1_500
    argv = (await seats.launched(seats.stand_in(runtime), runtime=runtime, contract=contract)).argv
    if runtime == "codex":
        (toml,) = (word for word in argv if word.startswith("developer_instructions="))
        assert contract in tomllib.loads(toml)["developer_instructions"]
    else:
        assert contract in argv[argv.index("--append-system-prompt") + 1]


@pytest.mark.parametrize(
    ("runtime", "option"), [("claude", "--append-system-prompt-file"), ("pi", "--append-system-prompt")]
)
async def test_a_contract_longer_than_an_argument_arrives_by_a_file(seats: Seats, runtime: str, option: str) -> None:
    started = await seats.launched(seats.stand_in(runtime), runtime=runtime, contract="x" * ARGUMENT_LIMIT)
    file = started.argv[started.argv.index(option) + 1]
    assert file == started.env["MOSAIC_SEED_FILE"]
    assert Path(file).stat().st_size > ARGUMENT_LIMIT
