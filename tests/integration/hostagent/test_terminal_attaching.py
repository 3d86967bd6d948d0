"""What a tmux server before 3.7 does not survive, and is spared: news for its clients while one of them attaches."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal import turn
from mosaic_hostagent.terminal.attaching import Attaching
from mosaic_hostagent.terminal.control_mode import FLAGS, VIEW_FLAGS
from mosaic_hostagent.terminal.problems import TerminalLost
from mosaic_hostagent.terminal.server import Launch, TmuxServer
from mosaic_hostagent.terminal.tap import Tap
from mosaic_hostagent.units.plain import Tmux

from tests.support.hostagent import HOLDER
from tests.support.tmux import PrivateTmux

ROUNDS = 12


@pytest.fixture
async def slow(server: TmuxServer) -> TmuxServer:
    """A server whose clients take long to say all about themselves: they have a large environment."""
    await server.control()
    server._env |= {f"A_LONG_VARIABLE_{number}": "x" * 200 for number in range(4000)}
    return server


async def server_pid(server: TmuxServer) -> str:
    ((pid,),) = await server.run(["display-message", "-p", "#{pid}"])
    return pid


async def seat(server: TmuxServer, name: str) -> Session:
    return await server.start(
        Launch(
            agent_id=name,
            name=name,
            run_id="r1",
            generation=1,
            restart=0,
            launch_digest="d1",
            argv=["cat"],
            env={},
            folder=Path("/tmp"),
        )
    )


async def left_behind(server: TmuxServer, target: str, flags: str) -> Process:
    """Return a control client that nobody of this process knows of, attached."""
    client = await asyncio.create_subprocess_exec(
        *(*server.command, "-C", "attach-session", "-t", f"={target}:", "-f", flags),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "TMUX_TMPDIR": server.tmpdir},
    )
    await client.stdout.readline()
    return client


async def viewed(server: TmuxServer, session: Session) -> Tap:
    return await Tap.attach(server, session.session_id, session.pane_id, lambda: None)


async def test_a_server_lives_while_agents_begin_and_end_and_viewers_come(slow: TmuxServer) -> None:
    pid = await server_pid(slow)
    watched = await seat(slow, "watched")

    async def agents() -> None:
        while True:
            await slow.kill(await seat(slow, "brief"))

    coming = asyncio.create_task(agents())
    try:
        for _ in range(ROUNDS):
            await (await viewed(slow, watched)).close()
            assert not coming.done()
    finally:
        coming.cancel()
        await asyncio.wait({coming})
    assert await server_pid(slow) == pid


async def test_a_server_lives_while_units_begin_and_end_agents_and_clients_come(slow: TmuxServer) -> None:
    pid = await server_pid(slow)
    watched = await seat(slow, "watched")
    unit = Tmux(slow.command, {**os.environ, "TMUX_TMPDIR": slow.tmpdir}, slow.turn_path)
    over = threading.Event()

    def agents() -> None:
        while not over.is_set():
            unit.change([["new-session", "-d", "-s", "brief", "cat"]])
            unit.change([["kill-session", "-t", "=brief"]])

    coming = asyncio.create_task(asyncio.to_thread(agents))
    try:
        for _ in range(2 * ROUNDS):
            await (await viewed(slow, watched)).close()
            await (await slow.control()).close()  # lost: the next command attaches anew
            assert not coming.done()
    finally:
        over.set()
        await coming
    assert await server_pid(slow) == pid


async def test_a_server_lives_when_one_viewer_leaves_while_another_comes(slow: TmuxServer) -> None:
    pid = await server_pid(slow)
    watched = await seat(slow, "watched")
    for number in range(2 * ROUNDS):
        leaving = await viewed(slow, watched)
        coming = asyncio.create_task(viewed(slow, watched))
        await asyncio.wait({coming}, timeout=number / 2000)
        await leaving.close()
        await (await coming).close()
    assert await server_pid(slow) == pid


async def test_a_server_lives_when_a_viewer_of_an_ended_agent_leaves_while_another_comes(slow: TmuxServer) -> None:
    pid = await server_pid(slow)
    other = await seat(slow, "other")
    for number in range(2 * ROUNDS):
        watched = await seat(slow, "watched")
        leaving = await viewed(slow, watched)
        os.kill(leaving._client.pid, signal.SIGSTOP)  # a busy machine
        await slow.kill(watched)
        coming = asyncio.create_task(viewed(slow, other))
        await asyncio.wait({coming}, timeout=number / 2000)
        os.kill(leaving._client.pid, signal.SIGCONT)
        await (await coming).close()
        await leaving.close()
    assert await server_pid(slow) == pid


async def test_a_server_lives_when_viewers_leave_before_they_were_there(slow: TmuxServer) -> None:
    pid = await server_pid(slow)
    watched = await seat(slow, "watched")
    for number in range(ROUNDS):
        coming = asyncio.create_task(viewed(slow, watched))
        await asyncio.wait({coming}, timeout=number / 1000)
        coming.cancel()
        await asyncio.wait({coming})
        if not coming.cancelled():
            await (await coming).close()
    assert await server_pid(slow) == pid
    (clients,) = await slow.run(["list-clients", "-F", "#{client_session}"])
    assert clients == [slow.key.holder]


async def test_clients_of_a_killed_host_agent_are_gone_before_the_next_one_attaches(
    slow: TmuxServer, private: PrivateTmux
) -> None:
    pid = await server_pid(slow)
    watched = await seat(slow, "watched")
    await slow.close()
    for number in range(ROUNDS):
        left = [await left_behind(slow, target, flags) for target, flags in ((HOLDER, FLAGS), ("watched", VIEW_FLAGS))]
        person = await left_behind(slow, "watched", "no-output")
        again = TmuxServer(slow.key, home="aaaaaaaa", environment=private.environment)
        again._env = slow._env
        coming = asyncio.create_task(again.control())
        await asyncio.wait({coming}, timeout=0.01 + number / 500)
        for client in left[: number and 2]:  # a busy machine: only now do they see, if ever, that nobody reads them
            client.stdin.close()
        (clients,) = await (await coming).run(["list-clients", "-F", "#{client_pid}"])
        assert set(clients) == {str(person.pid), str((await coming).pid)}
        person.stdin.close()
        for client in (*left, person):
            await client.stdout.read()
            await client.wait()
        assert await again.observe_one(watched) is not None
        await again.close()
    assert await server_pid(slow) == pid


async def test_a_client_attaches_when_all_else_has_been_answered_and_before_what_is_asked_for_later(
    tmp_path: Path,
) -> None:
    attaching, told = Attaching(lambda: str(tmp_path / "turn")), list[str]()

    async def other(name: str) -> None:
        async with attaching.others():
            told.append(f"{name} begins")
            await asyncio.sleep(0)
            told.append(f"{name} ends")

    async def client() -> None:
        async with attaching.alone():
            told.append("attaches")
            await asyncio.sleep(0)
            told.append("is attached")

    await asyncio.gather(other("one"), other("two"), client(), other("three"))
    assert told[:4] == ["one begins", "two begins", "one ends", "two ends"]
    assert told[4:] == ["attaches", "is attached", "three begins", "three ends"]


async def test_no_unit_begins_its_turn_while_the_host_agent_waits_for_those_that_have_theirs(tmp_path: Path) -> None:
    path = str(tmp_path / "turn")
    attached = asyncio.Event()

    async def client() -> None:
        async with Attaching(lambda: path).alone():
            attached.set()

    first = turn._unit(path)
    second = turn._unit(path)  # units have their turns together
    assert min(first, second) >= 0
    coming = asyncio.create_task(client())
    await asyncio.sleep(0)
    assert turn._unit(path) == -1
    os.close(first)
    os.close(second)
    await coming
    assert attached.is_set()


async def test_a_lock_that_cannot_be_made_keeps_clients_from_attaching_and_no_unit_from_its_work(
    tmp_path: Path,
) -> None:
    path = tmp_path / "turn"
    path.mkdir()
    with pytest.raises(TerminalLost, match="whose turn"):
        async with Attaching(lambda: str(path)).alone():
            raise AssertionError("it attaches")
    with turn.taken(str(path)):
        pass


async def test_a_unit_is_kept_from_its_turn_by_a_hung_host_agent_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "turn")
    async with Attaching(lambda: path).alone():
        assert turn.take(path) == -1
        monkeypatch.setattr(turn, "SECONDS", 0.02)
        with turn.taken(path):
            assert turn.take(path) == -1
    with turn.taken(path), turn.taken(str(tmp_path / "no-host-agent-yet" / "turn")):
        async with Attaching(lambda: path).alone():
            assert turn.take(path) == -1
    assert turn.take(path) >= 0
