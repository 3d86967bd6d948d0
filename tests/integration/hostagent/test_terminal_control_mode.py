"""The control-mode client on a real tmux: replies in order, any text unharmed, and a server that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaic_hostagent.terminal import client as client_module
from mosaic_hostagent.terminal import control_mode as control_module
from mosaic_hostagent.terminal import server as server_module
from mosaic_hostagent.terminal.control_mode import ControlMode, ReplyParser
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.server import TmuxServer

HOSTILE = [
    ";",
    "a;",
    "\\;",
    "a ; kill-server",
    '"',
    "$HOME",
    "~",
    "#{pid}",
    "#(id)",
    "{",
    "}",
    "%begin 1 1 1",
    "'",
    "\\",
]


async def through_a_buffer(server: TmuxServer, folder: Path, text: str) -> str:
    """Give tmux a text, and return what it has understood."""
    await server.run(["set-buffer", "-b", "x", "--", text], ["save-buffer", "-b", "x", str(folder / "buffer")])
    return (folder / "buffer").read_bytes().decode()


async def test_replies_come_back_to_who_asked_in_order(server: TmuxServer) -> None:
    replies = await asyncio.gather(*(server.run(["display-message", "-p", str(number)]) for number in range(200)))
    assert [reply[0] for reply in replies] == [[str(number)] for number in range(200)]


async def test_one_line_of_commands_gives_a_reply_each(server: TmuxServer) -> None:
    assert await server.run(*(["display-message", "-p", word] for word in "abc")) == [["a"], ["b"], ["c"]]


async def test_a_refused_command_says_why_and_the_next_one_works(server: TmuxServer) -> None:
    with pytest.raises(TmuxRefused, match="refused") as refused:
        await server.run(["display-message", "-p", "before"], ["kill-session", "-t", "=nobody:"], ["kill-server"])
    assert "can't find session" in refused.value.why
    assert await server.run(["display-message", "-p", "after"]) == [["after"]]


async def test_a_command_that_tmux_does_not_know_is_refused_and_not_waited_for(server: TmuxServer) -> None:
    with pytest.raises(TmuxRefused):
        await server.run(["no-such-command"], ["display-message", "-p", "x"])
    assert await server.run(["display-message", "-p", "after"]) == [["after"]]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_a_word_and_never_a_command(server: TmuxServer, tmp_path: Path, text: str) -> None:
    assert await through_a_buffer(server, tmp_path, text) == text


async def test_any_text_reaches_a_buffer_byte_for_byte(server: TmuxServer, tmp_path: Path) -> None:
    await server.control()
    loop = asyncio.get_running_loop()
    told: list[tuple[str, str]] = []

    async def through(text: str) -> None:
        told.append((text, await through_a_buffer(server, tmp_path, text)))

    characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.text(characters, min_size=1, max_size=60))
    def check(text: str) -> None:
        asyncio.run_coroutine_threadsafe(through(text), loop).result(10)

    await asyncio.to_thread(check)
    assert len(told) > 100
    assert [pair for pair in told if pair[0] != pair[1]] == []


async def test_256_kib_go_through_in_one_piece(server: TmuxServer) -> None:
    text = "".join(chr(0x4E00 + number % 5000) for number in range(80_000)) + ';"$\n'
    await server.run(["set-buffer", "-b", "x", "--", text])
    assert await server.run(["display-message", "-p", "#{buffer_size}"]) == [[str(len(text.encode()))]]


async def test_a_pane_that_prints_reply_marks_does_not_end_a_reply(server: TmuxServer) -> None:
    lies = "%end 1 2 1\n%begin 1 3 1\n%error 1 3 1\n"
    program = ["sh", "-c", 'printf %s "$1"; cat', "sh", lies]
    await server.run(["new-session", "-d", "-s", "liar", "-x", "60", "-y", "5", "--", *program])
    for _ in range(1000):
        screen, after = await server.run(["capture-pane", "-p", "-t", "=liar:"], ["display-message", "-p", "sure"])
        assert after == ["sure"]
        if screen[:3] == lies.splitlines():
            return
    raise AssertionError(screen)


def test_only_the_words_of_its_own_begin_end_a_reply() -> None:
    parser = ReplyParser()
    data = b"%begin 10 7 1\n%end 10 6 1\n%error 10 7 0\ntext\n%end 10 7 1\n%output %1 x\n%begin 10 8 0\n%error 10 8 0\n"
    found = [block for index in range(len(data)) for block in parser.feed(data[index : index + 1])]
    assert found == [(True, True, ["%end 10 6 1", "%error 10 7 0", "text"]), (False, False, [])]


async def test_a_server_that_dies_fails_what_waits_and_the_next_call_brings_it_back(server: TmuxServer) -> None:
    client = await server.control()
    ((pid,),) = await server.run(["display-message", "-p", "#{pid}"])
    os.kill(int(pid), signal.SIGSTOP)
    waiting = asyncio.create_task(client.run(["display-message", "-p", "x"]))
    await asyncio.sleep(0)
    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(TerminalLost):
        await waiting
    with pytest.raises(TerminalLost):
        await client.run(["display-message", "-p", "x"])
    ((again,),) = await server.run(["display-message", "-p", "#{pid}"])
    assert again != pid


async def test_a_server_that_hangs_is_given_up_and_reached_again_when_it_goes_on(
    server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((pid,),) = await server.run(["display-message", "-p", "#{pid}"])
    os.kill(int(pid), signal.SIGSTOP)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(control_module, "REPLY_SECONDS", 0.2)
            impatient.setattr(server_module, "REPLY_SECONDS", 0.2)
            for _ in range(2):
                with pytest.raises(TerminalLost):
                    await server.run(["display-message", "-p", "x"])
            with pytest.raises(TerminalLost, match="answer"):
                await server.look()
    finally:
        os.kill(int(pid), signal.SIGCONT)
    assert await server.run(["display-message", "-p", "#{pid}"]) == [[pid]]


async def test_a_session_that_is_not_there_cannot_be_attached(server: TmuxServer) -> None:
    await server.control()
    with pytest.raises(TerminalLost):
        await ControlMode.attach(["tmux", "-L", server.key.socket_name], "nobody", env=server._env)


async def test_an_attachment_that_is_given_up_leaves_no_client_behind(
    server: TmuxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "DETACH_SECONDS", 0.05)
    await server.control()
    ((pid,),) = await server.run(["display-message", "-p", "#{pid}"])
    known = {child.pid for child in psutil.Process().children()}
    os.kill(int(pid), signal.SIGSTOP)
    try:
        attaching = asyncio.create_task(ControlMode.attach(server.command, server.key.holder, env=server._env))
        while not (clients := [one for one in psutil.Process().children() if one.pid not in known]):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        attaching.cancel()
        await asyncio.wait({attaching})
    finally:
        os.kill(int(pid), signal.SIGCONT)
    assert attaching.cancelled()
    assert not any(client.is_running() for client in clients)


async def test_closing_twice_is_fine(server: TmuxServer) -> None:
    client = await server.control()
    await client.close()
    await client.close()
    assert client.ended.is_set()
