"""When nothing is typed into a pane, or no key is pressed after it: none is pressed blindly."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from mosaic_hostagent.terminal import deliver as delivery
from mosaic_hostagent.terminal import keys
from mosaic_hostagent.terminal.deliver import deliver
from mosaic_hostagent.terminal.driving import Driving
from mosaic_hostagent.terminal.pane import NotNow
from mosaic_hostagent.terminal.screen import look
from mosaic_hostagent.terminal.server import TmuxServer

from tests.support.standins import manifest_of, read_log
from tests.support.typist import DONE, Ledger, Open, frame, kill, until_shown


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


async def test_a_message_that_may_wait_for_enter_no_longer_is_unknown_and_makes_way_for_the_next(
    agent: Open, server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    typist, paste = await agent(), keys.paste
    pane, order = typist.session.pane_id, typist.order("too late", enter_within=0.0)

    async def paste_and_scroll(*given: Any, **named: Any) -> bool:
        done = await paste(*given, **named)
        await server.run(["copy-mode", "-t", pane])
        return done

    ledger = Ledger()
    with monkeypatch.context() as scrolled:
        scrolled.setattr(keys, "paste", paste_and_scroll)
        async with asyncio.timeout(10):
            await deliver(typist.pane, typist.manifest, order, ledger)
    assert ledger.said == ["typing", "typed", "unknown"]
    await server.run(["send-keys", "-t", pane, "-X", "cancel"])
    assert await typist.type("in time", leftovers=[order.typing.whole]) == DONE
    assert [text.partition("] ")[2] for text in typist.entered()] == ["in time"]


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


async def test_nothing_is_typed_into_a_program_that_ends_in_the_moment_before(agent: Open, server: TmuxServer) -> None:
    typist = await agent()
    ledger = Ledger()
    ledger.on = {"typing": lambda: kill(typist)}
    with pytest.raises(NotNow):
        await deliver(typist.pane, typist.manifest, typist.order("hello"), ledger)
    assert ledger.said == ["typing", "untyped"]
