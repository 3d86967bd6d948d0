"""Typing into real panes: what is claimed is what was seen, and no key is pressed blindly."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mosaic_framework.manifest import Manifest, Paste
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal import deliver as delivery
from mosaic_hostagent.terminal import keys
from mosaic_hostagent.terminal.deliver import Order, deliver
from mosaic_hostagent.terminal.driving import Driving
from mosaic_hostagent.terminal.gate import obstacle
from mosaic_hostagent.terminal.pane import NotNow, Pane
from mosaic_hostagent.terminal.screen import look, read_text
from mosaic_hostagent.terminal.server import Launch, TmuxServer
from mosaic_hostagent.terminal.text import compose

from tests.support.standins import command_of, manifest_of, read_log
from tests.support.tmux import PrivateTmux

Manifests = Callable[[str], Manifest]


@dataclass
class Ledger:
    """Remembers what it is told."""

    said: list[str] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)
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

    async def accepted(self) -> None:
        await self._say("accepted")

    async def unknown(self, reason: str) -> None:
        await self._say("unknown")

    def stalled(self, reason: str) -> None:
        self.stalls.append(reason)


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
        return Pane(self.server, self.session.pane_id, "agent-1", self.session.pid)

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
        return [event["text"] for event in read_log(self.transcript) if event["event"] == "took"]

    async def screen(self) -> str:
        return await read_text(self.server, self.session.pane_id, scrollback=200)


Open = Callable[..., Awaitable[Typist]]


async def until_shown(typist: Typist, words: str) -> None:
    async with asyncio.timeout(10):
        while words not in await typist.screen():
            await asyncio.sleep(0.01)


@pytest.fixture
def typist(server: TmuxServer, manifest: Manifests, tmp_path: Path) -> Open:
    async def open_(*argv: str, made_for: Manifest | None = None) -> Typist:
        launch = Launch("a1", "x", "r-x", 1, 0, "d", argv, {"PS1": "$ "}, tmp_path)
        session = await server.start(launch)
        made = Typist(server, session, made_for or manifest("shell"), tmp_path / "transcript")
        await made.ready()
        return made

    return open_


@pytest.fixture
def shell(typist: Open) -> Callable[[], Awaitable[Typist]]:
    return lambda: typist("bash", "--norc", "--noprofile")


@pytest.fixture
def agent(typist: Open, tmp_path: Path) -> Callable[..., Awaitable[Typist]]:
    def open_(standin: str = "echoes-at-once", **behaviour: object) -> Awaitable[Typist]:
        argv = command_of(standin, tmp_path / "transcript", **behaviour)
        return typist(*argv, made_for=manifest_of(standin))

    return open_


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


async def test_enter_waits_for_a_person_to_leave_copy_mode(
    shell: Open, server: TmuxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await shell()
    ledger = Ledger()
    pane, paste = typist.session.pane_id, keys.paste

    async def paste_and_scroll(*given: Any, **named: Any) -> bool:
        done = await paste(*given, **named)
        await server.run(["copy-mode", "-t", pane])
        return done

    async def leave() -> None:
        asyncio.get_running_loop().call_later(
            0.2, lambda: asyncio.ensure_future(server.run(["send-keys", "-t", pane, "-X", "cancel"]))
        )

    monkeypatch.setattr(keys, "paste", paste_and_scroll)
    ledger.on = {"typed": leave}
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


async def test_a_dialog_is_never_approved(agent: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SEEN_SECONDS", 0.3)
    typist = await agent(asks_on_paste=1.0)
    assert (await typist.type("hello", enter_within=0.5))[-1] == "unknown"
    with pytest.raises(NotNow, match="question"):
        await typist.type("hello")
    assert read_log(typist.transcript) == []


async def test_a_text_of_ours_is_not_cleared_while_a_person_reads_the_scrollback(
    agent: Open, server: TmuxServer
) -> None:
    typist = await agent()
    pane = typist.session.pane_id
    await server.run(["send-keys", "-t", pane, "-l", "left"])
    await until_shown(typist, "left")
    await server.run(["copy-mode", "-t", pane])
    with pytest.raises(NotNow, match=r"composer$"):
        await typist.type("hello", leftovers=["left"])


def frame(text: str = "") -> str:
    """Return a program that leaves a box composer with `text` on its screen."""
    rows = ["─" * 60, f"\u276f {text}", "─" * 60, "  ? for shortcuts", ""]
    return f"printf '%s\\n' {' '.join(map(shlex.quote, rows))}"


@pytest.mark.parametrize("left", [True, False], ids=["our text stands there", "an empty one"])
async def test_nothing_is_typed_into_a_shell_under_the_composer_of_a_program_that_died(
    typist: Open, left: bool
) -> None:
    manifest = manifest_of("echoes-at-once")
    dead = await typist("sh", "-c", f"{frame('left' if left else '')}; exec bash --norc --noprofile", made_for=manifest)
    await until_shown(dead, "\n$")
    ledger = Ledger()
    with pytest.raises(NotNow, match="bare shell"):
        await deliver(dead.pane, manifest, dead.order("touch out", leftovers=["left"] if left else []), ledger)
    assert ledger.said == []
    assert "touch" not in await dead.screen()


async def test_nothing_is_typed_into_what_took_the_place_of_the_program(agent: Open, server: TmuxServer) -> None:
    typist = await agent()
    pane = typist.pane
    await server.run(["respawn-pane", "-k", "-t", pane.pane_id, f"{frame()}; exec cat"])
    await until_shown(typist, "shortcuts")
    with pytest.raises(NotNow, match="another program"):
        await deliver(pane, typist.manifest, typist.order("hello"), Ledger())


async def test_nothing_is_typed_into_what_takes_the_place_of_the_program_in_the_moment_before(
    agent: Open, server: TmuxServer
) -> None:
    typist = await agent()
    ledger = Ledger()

    async def replace() -> None:
        await server.run(["respawn-pane", "-k", "-t", typist.session.pane_id, f"{frame()}; exec cat"])
        await until_shown(typist, "shortcuts")

    ledger.on = {"typing": replace}
    with pytest.raises(NotNow, match="in the moment before"):
        await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said == ["typing", "untyped"]
    assert "hello" not in await typist.screen()


async def test_what_takes_the_place_of_the_program_after_the_paste_gets_no_enter(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist, paste = await agent(), keys.paste
    order = typist.order("hello", enter_within=0.4)

    async def paste_and_replace(*given: Any, **named: Any) -> bool:
        done = await paste(*given, **named)
        program = f"{frame(order.typing.whole)}; exec head -n 1 > entered"
        await server.run(["respawn-pane", "-k", "-t", typist.session.pane_id, program])
        await until_shown(typist, "shortcuts")
        return done

    monkeypatch.setattr(keys, "paste", paste_and_replace)
    ledger = Ledger()
    await deliver(typist.pane, typist.manifest, order, ledger)
    assert ledger.said == ["typing", "typed", "unknown"]


async def test_a_message_waits_for_a_person_who_types_through_the_host_agent(agent: Open) -> None:
    typist = await agent()
    pane, ledger = typist.pane, Ledger()
    pane.driving.pressed(b"x", time.monotonic())
    with pytest.raises(NotNow, match="is typing"):
        await deliver(pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said == []


async def test_a_key_of_a_person_in_the_moment_before_the_paste_forbids_it(agent: Open, server: TmuxServer) -> None:
    typist = await agent()
    pane = typist.pane

    async def at_the_door() -> None:
        pane.driving.pressed(b"x", time.monotonic())

    async def past_it() -> None:
        await server.run(["send-keys", "-t", pane.pane_id, "-l", "half a tho"])
        await until_shown(typist, "half a tho")

    for act in (at_the_door, past_it):
        ledger = Ledger(on={"typing": act})
        with pytest.raises(NotNow, match="draft"):
            await deliver(pane, typist.manifest, typist.order("hello"), ledger)
        assert ledger.said == ["typing", "untyped"]
        pane.driving = Driving()


async def test_enter_waits_while_a_persons_key_stands_with_what_was_typed(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist, paste = await agent(), keys.paste

    async def paste_and_type(*given: Any, **named: Any) -> bool:
        done = await paste(*given, **named)
        await server.run(["send-keys", "-t", typist.session.pane_id, "-l", "not me"])
        return done

    monkeypatch.setattr(keys, "paste", paste_and_type)
    assert (await typist.type("hello", enter_within=0.4))[-1] == "unknown"
    assert typist.entered() == []


async def test_no_key_of_ours_is_pressed_while_one_of_a_person_is_on_its_way(
    agent: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist = await agent()
    pane = typist.pane
    seen = await pane.look()
    with monkeypatch.context() as unread:
        unread.setattr(keys, "unread", lambda _tty: 1)
        assert not await pane.press("Enter", seen=seen)
    pane.driving.pressed(b"x", time.monotonic())
    assert not await pane.press("Enter", seen=seen)
    pane.driving = Driving()
    assert await pane.press("Enter", seen=seen)


async def test_a_program_that_reads_late_is_typed_into_once(agent: Open) -> None:
    typist = await agent(wedge_after=1, wedge_seconds=0.5)
    assert await typist.type("first") == DONE
    assert await typist.type("second") == DONE
    assert len(typist.entered()) == 2


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

    ledger.on = {"typed and entering": die}
    await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said[-1] == "unknown"


async def test_nothing_is_typed_into_a_program_that_ends_in_the_moment_before(agent: Open, server: TmuxServer) -> None:
    typist = await agent()
    ledger = Ledger()

    async def die() -> None:
        os.kill(typist.session.pid, signal.SIGKILL)
        while (await server.observe()).sessions[0].alive:
            await asyncio.sleep(0.005)

    ledger.on = {"typing": die}
    with pytest.raises(NotNow):
        await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said == ["typing", "untyped"]


async def test_a_delivery_into_a_shell_takes_milliseconds(shell: Open) -> None:
    typist = await shell()
    times = []
    for number in range(30):
        await typist.ready()
        began = time.perf_counter()
        assert await typist.type(f"echo {number}") == DONE
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.05  # it takes 3 ms; a sleep on the way would show
