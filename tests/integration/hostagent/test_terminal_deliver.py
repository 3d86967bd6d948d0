"""Typing into real panes: what is claimed is what was seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mosaic_framework.manifest import Paste
from mosaic_hostagent.terminal import deliver as delivery
from mosaic_hostagent.terminal.deliver import deliver
from mosaic_hostagent.terminal.server import TmuxServer

from tests.support.standins import read_log
from tests.support.tmux import PrivateTmux
from tests.support.typist import DONE, Ledger, Open, kill


async def test_a_shell_runs_what_is_typed_and_it_is_submitted(shell: Open, tmp_path: Path) -> None:
    typist = await shell()
    assert await typist.type("echo 'a b' > out; echo ;") == DONE
    await typist.ready()
    assert await typist.type('echo "it\'s" >> out') == DONE
    await typist.ready()
    assert (tmp_path / "out").read_text() == "a b\nit's\n"


@pytest.mark.parametrize(
    "body",
    [
        "for i in 1 2 3\ndo echo $i\ndone > out",
        "clear; echo x > out",
        "echo " + "x" * 3000 + " > out",
        "echo 'hällo 你好 🦊' > out",
        "echo x > out #" + " y" * 97,
        "printf 'x\\n' > out; sleep 0.3",
        "cat > out <<'.'\n" + "\n".join(f"line {number}" for number in range(400)) + "\n.",
    ],
    ids=["lines", "clear", "wraps", "wide", "edge", "slow", "longer than the screen"],
)
async def test_every_shape_of_command_is_seen_typed_and_seen_gone(shell: Open, tmp_path: Path, body: str) -> None:
    typist = await shell()
    assert await typist.type(body) == DONE
    await typist.ready()
    assert (tmp_path / "out").read_text()


async def test_a_shell_without_bracketed_paste_is_seen_to_wait_for_the_last_enter(
    typist: Open, private: PrivateTmux, tmp_path: Path
) -> None:
    (private.folder / "home" / ".inputrc").write_text("set enable-bracketed-paste off\n")
    typist = await typist("bash", "--norc")
    assert await typist.type("echo one > out\necho two >> out\necho three >> out") == DONE
    await typist.ready()
    assert (tmp_path / "out").read_text().split() == ["one", "two", "three"]


async def test_an_agents_composer_takes_a_message_with_its_preamble(agent: Open) -> None:
    typist = await agent()
    assert await typist.type("fix the tests\nall of them") == DONE
    assert typist.entered() == ["[anna → x #m1] fix the tests\nall of them"]


async def test_the_same_text_again_is_seen_again(agent: Open) -> None:
    typist = await agent()
    for _ in range(3):
        assert await typist.type("go on") == DONE
    assert len(typist.entered()) == 3


async def test_a_collapsed_paste_counts_as_typed(agent: Open) -> None:
    typist = await agent("collapses-long-pastes")
    body = "\n".join(f"line {number}" for number in range(60))
    assert await typist.type(body) == DONE
    assert typist.entered() == [f"[anna → x #m1] {body}"]


async def test_a_long_text_of_a_person_arrives_whole_though_typed_in_pieces(agent: Open) -> None:
    typist = await agent()
    body = "\n".join(f"line {number} with some words; and a semicolon;" for number in range(300))
    pieces = Paste(exact_lines=3, exact_characters=800, piece_lines=3, piece_characters=700)
    typist.manifest = typist.manifest.model_copy(update={"paste": pieces})
    order = typist.order(body)
    assert len(order.typing.pieces) > 50
    ledger = Ledger()
    await deliver(typist.pane, typist.manifest, order, ledger)
    assert ledger.said == DONE
    assert typist.entered() == [f"[anna → x #m1] {body}"]


async def test_a_program_that_drops_the_paste_gets_no_enter(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent(drops=True)
    assert await typist.type("hello") == ["typing", "unknown"]
    assert typist.entered() == []


async def test_a_composer_that_keeps_the_text_is_not_submitted(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent(deaf_seconds=1e6)
    assert await typist.type("hello") == ["typing", "typed and entering", "unknown"]


async def test_a_program_that_reads_late_is_typed_into_once(agent: Open) -> None:
    typist = await agent(wedge_after=1, wedge_seconds=0.5)
    assert await typist.type("first") == DONE
    assert await typist.type("second") == DONE
    assert len(typist.entered()) == 2


async def test_enter_waits_as_long_as_the_program_takes_it_for_a_part_of_the_paste_however_late_that_is_read(
    agent: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 5.0)
    typist = await agent(swallow_ms=300, wedge_after=1, wedge_seconds=0.5)
    typist.manifest = typist.manifest.model_copy(update={"paste": Paste(settle_ms=350)})
    assert await typist.type("read at once") == DONE
    assert await typist.type("read late") == DONE
    assert [event for event in read_log(typist.transcript) if event["event"] == "ignored"] == []


@pytest.mark.parametrize("runtime", ["shell", "agent"])
async def test_a_text_of_ours_left_in_the_composer_is_cleared_first(
    shell: Open, agent: Open, server: TmuxServer, tmp_path: Path, runtime: str
) -> None:
    typist = await (shell() if runtime == "shell" else agent())
    left = typist.order("echo left > wrong").typing.whole
    await server.run(
        ["set-buffer", "-b", "x", "--", left], ["paste-buffer", "-p", "-d", "-b", "x", "-t", typist.session.pane_id]
    )
    while "wrong" not in await typist.screen():
        await asyncio.sleep(0.01)
    assert await typist.type("echo right > out", leftovers=[left]) == DONE
    await typist.ready()
    assert not (tmp_path / "wrong").exists()
    if runtime == "agent":
        assert [text.partition("] ")[2] for text in typist.entered()] == ["echo right > out"]


async def test_an_empty_composer_is_never_cleared_because_that_would_end_the_program(agent: Open) -> None:
    typist = await agent()
    assert await typist.type("hello", leftovers=["[anna → x #m0] something earlier"]) == DONE
    assert len(typist.entered()) == 1


async def test_a_program_that_ends_while_it_is_typed_into_leaves_the_message_unknown(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent()
    ledger = Ledger()
    ledger.on = {"typed and entering": lambda: kill(typist)}
    await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said[-1] == "unknown"
