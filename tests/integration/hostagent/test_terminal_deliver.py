"""Typing into real panes: what is claimed is what was seen, and no key is pressed blindly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal import deliver as delivery
from mosaic_hostagent.terminal.deliver import NotNow, Order, Pane, deliver
from mosaic_hostagent.terminal.gate import obstacle
from mosaic_hostagent.terminal.screen import look, read_text
from mosaic_hostagent.terminal.server import Launch, TmuxServer
from mosaic_hostagent.terminal.text import compose

from tests.support.tmux import PrivateTmux

COMPOSER = Path(__file__).parents[2] / "fakes" / "composer.py"
Manifests = Callable[[str], Manifest]


@dataclass
class Ledger:
    """Remembers what it is told."""

    said: list[str] = field(default_factory=list)
    on: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    async def _say(self, what: str) -> None:
        self.said.append(what)
        if (act := self.on.get(what)) is not None:
            await act()

    async def typing(self) -> None:
        await self._say("typing")

    async def untyped(self) -> None:
        await self._say("untyped")

    async def typed(self, detail: str) -> None:
        await self._say("typed")

    async def typed_and_entering(self, detail: str) -> None:
        await self._say("typed and entering")

    async def submitted(self, detail: str) -> None:
        await self._say("submitted")

    async def unknown(self, reason: str) -> None:
        await self._say("unknown")


DONE = ["typing", "typed and entering", "submitted"]


@dataclass
class Typist:
    """One pane and the manifest of what runs in it."""

    server: TmuxServer
    session: Session
    manifest: Manifest
    transcript: Path
    number: int = 0

    @property
    def pane(self) -> Pane:
        return Pane(self.server, self.session.pane_id, "agent-1")

    async def ready(self) -> None:
        for _ in range(1000):
            if not obstacle(await look(self.server, self.session.pane_id), self.manifest):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(await read_text(self.server, self.session.pane_id, scrollback=10))

    def order(self, body: str, *, leftovers: list[str] | None = None, enter_within: float = 5.0) -> Order:
        self.number += 1
        text = compose(
            body, self.manifest, sender="anna", recipient="x", message_id=f"m{self.number}", sender_is_person=True
        )
        return Order(f"m{self.number}", text, leftovers or [], asyncio.get_running_loop().time() + enter_within)

    async def type(self, body: str, **settings: object) -> list[str]:
        ledger = Ledger()
        await deliver(self.pane, self.manifest, self.order(body, **settings), ledger)  # type: ignore[arg-type]
        return ledger.said

    def entered(self) -> list[str]:
        return (
            [json.loads(line) for line in self.transcript.read_text().splitlines()] if self.transcript.exists() else []
        )

    async def screen(self) -> str:
        return await read_text(self.server, self.session.pane_id, scrollback=200)


Open = Callable[..., Awaitable[Typist]]


@pytest.fixture
def typist(server: TmuxServer, manifest: Manifests, tmp_path: Path) -> Open:
    async def open_(*argv: str, runtime: str = "shell", name: str = "x", wait: bool = True) -> Typist:
        launch = Launch("a1", name, f"r-{name}", 1, 0, "d", argv, {"PS1": "$ "}, tmp_path)
        made = Typist(server, await server.start(launch), manifest(runtime), tmp_path / "transcript")
        if wait:
            await made.ready()
        return made

    return open_


@pytest.fixture
def shell(typist: Open) -> Callable[[], Awaitable[Typist]]:
    return lambda: typist("bash", "--norc", "--noprofile")


@pytest.fixture
def agent(typist: Open, tmp_path: Path) -> Callable[..., Awaitable[Typist]]:
    return lambda *behaviour, **more: typist(
        sys.executable, str(COMPOSER), str(tmp_path / "transcript"), *behaviour, runtime="claude", **more
    )


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


async def test_nothing_is_typed_into_a_full_screen_program_of_a_shell(shell: Open) -> None:
    typist = await shell()
    await typist.type("printf '\\033[?1049h$ '; sleep 100")
    while not (await look(typist.server, typist.session.pane_id)).alternate:
        await asyncio.sleep(0.01)
    with pytest.raises(NotNow, match="full-screen"):
        await typist.type("echo x")


async def test_nothing_is_typed_into_a_busy_shell(shell: Open) -> None:
    typist = await shell()
    await typist.type("cat")
    ledger = Ledger()
    with pytest.raises(NotNow, match="no prompt"):
        await deliver(typist.pane, typist.manifest, typist.order("echo x"), ledger)
    assert ledger.said == []
    assert "echo x" not in await typist.screen()


async def test_nothing_is_typed_after_a_persons_draft(shell: Open, server: TmuxServer) -> None:
    typist = await shell()
    await server.run(["send-keys", "-t", typist.session.pane_id, "-l", "rm -rf some"])
    while "some" not in await typist.screen():
        await asyncio.sleep(0.01)
    with pytest.raises(NotNow):
        await typist.type("thing")


async def test_nothing_is_typed_into_a_pane_in_copy_mode_nor_into_a_dead_one(shell: Open, server: TmuxServer) -> None:
    typist = await shell()
    await server.run(["copy-mode", "-t", typist.session.pane_id])
    with pytest.raises(NotNow, match="copy mode"):
        await typist.type("echo x")
    await server.run(["send-keys", "-t", typist.session.pane_id, "-X", "cancel"])
    assert await typist.type("exit") == DONE
    for _ in range(500):
        if not (await server.observe()).sessions[0].alive:
            break
        await asyncio.sleep(0.01)
    with pytest.raises(NotNow, match="ended"):
        await typist.type("echo x")
    await server.kill(typist.session)
    with pytest.raises(NotNow, match="gone"):
        await typist.type("echo x")


async def test_enter_waits_for_a_person_to_leave_copy_mode(shell: Open, server: TmuxServer, tmp_path: Path) -> None:
    typist = await shell()
    ledger = Ledger()
    pane = typist.session.pane_id

    async def scroll() -> None:
        await server.run(["copy-mode", "-t", pane])

    async def leave() -> None:
        asyncio.get_running_loop().call_later(
            0.2, lambda: asyncio.ensure_future(server.run(["send-keys", "-t", pane, "-X", "cancel"]))
        )

    ledger.on = {"typing": scroll, "typed": leave}
    await deliver(typist.pane, typist.manifest, typist.order("echo x > out"), ledger)
    assert ledger.said == ["typing", "typed", "typed and entering", "submitted"]
    await typist.ready()
    assert (tmp_path / "out").exists()


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
    typist = await agent("collapse")
    body = "\n".join(f"line {number}" for number in range(60))
    assert await typist.type(body) == DONE
    assert typist.entered() == [f"[anna → x #m1] {body}"]


async def test_a_long_text_of_a_person_arrives_whole_though_typed_in_pieces(agent: Open) -> None:
    typist = await agent()
    body = "\n".join(f"line {number} with some words; and a semicolon;" for number in range(300))
    order = typist.order(body)
    assert len(order.typing.pieces) > 50
    ledger = Ledger()
    await deliver(typist.pane, typist.manifest, order, ledger)
    assert ledger.said == DONE
    assert typist.entered() == [f"[anna → x #m1] {body}"]


async def test_a_program_that_drops_the_paste_gets_no_enter(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent("blind")
    assert await typist.type("hello") == ["typing", "unknown"]
    assert typist.entered() == []


async def test_a_composer_that_keeps_the_text_is_not_submitted(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent("deaf")
    assert await typist.type("hello") == ["typing", "typed and entering", "unknown"]


async def test_a_dialog_is_never_approved(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent("dialog")
    assert await typist.type("hello", enter_within=0.5) == ["typing", "unknown"]
    with pytest.raises(NotNow, match="question"):
        await typist.type("hello")
    assert typist.entered() == []


async def test_a_stopped_program_is_typed_into_once_it_reads_again(agent: Open) -> None:
    typist = await agent()
    os.kill(typist.session.pid, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(0.4, os.kill, typist.session.pid, signal.SIGCONT)
    assert await typist.type("hello") == DONE
    assert len(typist.entered()) == 1


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

    async def die() -> None:
        os.kill(typist.session.pid, signal.SIGKILL)
        while (await server.observe()).sessions[0].alive:
            await asyncio.sleep(0.005)

    ledger.on = {"typing": die}
    await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said[-1] in ("unknown", "untyped") or ledger.said == ["typing"]
    assert "submitted" not in ledger.said


async def test_a_delivery_into_a_shell_takes_milliseconds(shell: Open) -> None:
    typist = await shell()
    times = []
    for number in range(30):
        await typist.ready()
        began = time.perf_counter()
        assert await typist.type(f"echo {number}") == DONE
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.05  # it takes 3 ms; a sleep on the way would show
