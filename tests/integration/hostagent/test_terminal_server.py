"""Sessions of ours on a real tmux server, and nothing of anybody else's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.terminal.problems import SessionNameTaken, TmuxMissing, TmuxServerHeld, TmuxTooOld
from mosaic_hostagent.terminal.screen import read_text
from mosaic_hostagent.terminal.server import Launch, TmuxServer, tmux_version

from tests.support.hostagent import HOLDER
from tests.support.tmux import PrivateTmux


def launch(*argv: str, name: str = "coder0", env: Mapping[str, str] | None = None, folder: str = "/tmp") -> Launch:
    return Launch(
        agent_id="a1",
        name=name,
        run_id="r1",
        generation=3,
        restart=2,
        launch_digest="d1",
        argv=argv,
        env=env or {},
        folder=Path(folder),
    )


async def shown(server: TmuxServer, session: Session, text: str) -> str:
    """Wait until a pane shows `text`."""
    for _ in range(500):
        screen = await read_text(server, session.pane_id, scrollback=100)
        if text in screen:
            return screen
        await asyncio.sleep(0.01)
    raise AssertionError(f"{text!r} never shown:\n{screen}")


async def test_a_seat_carries_what_a_later_host_agent_needs(server: TmuxServer) -> None:
    started = await server.start(launch("cat"))
    (found,) = (await server.observe()).sessions
    assert found == started
    assert (found.agent_id, found.run_id, found.generation, found.restart, found.launch_digest) == (
        *("a1", "r1", 3, 2),
        "d1",
    )


async def test_arguments_and_environment_arrive_as_they_are(server: TmuxServer, tmp_path: Path) -> None:
    odd = ["a;", "$HOME", "`id`", "two words", "", "ü~", '"quoted"', "line\nbreak", "#{pid}"]
    program = ["sh", "-c", 'printf "<%s>" "$@" "$ODD"; cat', "sh", *odd]
    session = await server.start(launch(*program, env={"ODD": "x;\n$y ~ '#(id)'"}))
    screen = await shown(server, session, "#(id)")
    expected = "".join(f"<{word}>" for word in [*odd, "x;\n$y ~ '#(id)'"])
    assert screen.replace("\n", "") == expected.replace("\n", "")


async def test_a_single_word_is_a_program_and_never_a_line_for_a_shell(server: TmuxServer, tmp_path: Path) -> None:
    program = tmp_path / "odd name; touch pwned"
    program.write_text("#!/bin/sh\necho it ran in $(pwd)\ncat\n")
    program.chmod(0o755)
    session = await server.start(launch(str(program), folder=str(tmp_path)))
    await shown(server, session, "it ran in")
    assert not (tmp_path / "pwned").exists()


async def test_a_folder_whose_name_is_a_tmux_format_is_only_a_folder(server: TmuxServer, tmp_path: Path) -> None:
    folder = tmp_path / "#(touch pwned) #{pid}"
    folder.mkdir()
    session = await server.start(launch("sh", "-c", "pwd > where; cat", folder=str(folder)))
    assert session.alive
    for _ in range(500):
        if (folder / "where").exists() and (folder / "where").read_text():
            break
        await asyncio.sleep(0.01)
    assert (folder / "where").read_text().strip() == str(folder)
    assert not (tmp_path / "pwned").exists()


async def test_names_with_dots_stay_apart(server: TmuxServer) -> None:
    dotted = await server.start(launch("cat", name="a.b"))
    plain = await server.start(launch("cat", name="a_b"))
    assert dotted.session_id != plain.session_id


async def test_no_variable_of_ours_nor_of_an_outer_tmux_reaches_a_seat(private: PrivateTmux) -> None:
    outside = {**private.environment, "MOSAIC_DATABASE_URL": "postgres://secret", "TMUX": "/tmp/outer,1,0"}
    server = TmuxServer(ServerKey(private.socket_name, HOLDER), home="aaaaaaaa", environment=outside)
    try:
        session = await server.start(launch("sh", "-c", "env; echo the end; cat"))
        screen = await shown(server, session, "the end")
        assert "MOSAIC_" not in screen
        assert "/tmp/outer" not in screen
    finally:
        await server.close()


async def test_a_variable_of_ours_in_a_server_that_a_person_started_is_emptied(
    private: PrivateTmux, server: TmuxServer
) -> None:
    private.tmux("new-session", "-d", "-s", "mine", "cat")
    private.tmux("set-environment", "-g", "MOSAIC_DATABASE_URL", "postgres://secret")
    session = await server.start(launch("sh", "-c", "env; echo the end; cat"))
    assert "secret" not in await shown(server, session, "the end")


async def reaped(server: TmuxServer) -> Session:
    """The only session, when tmux has seen its program end."""
    async with asyncio.timeout(20):
        while True:
            (found,) = (await server.observe()).sessions
            if found.exit_status is not None:
                return found
            await server.reap()


async def test_what_a_dead_program_wrote_last_can_be_read(server: TmuxServer) -> None:
    session = await server.start(launch("sh", "-c", "echo last words; sleep 0.1; exit 7"))
    await shown(server, session, "last words")
    found = await reaped(server)
    assert (found.alive, found.exit_status) == (False, 7)


async def test_a_program_that_a_signal_ended_says_so(server: TmuxServer) -> None:
    session = await server.start(launch("sh", "-c", "kill -9 $$"))
    found = await reaped(server)
    assert found.run_id == session.run_id
    assert found.exit_status == 137


async def test_sessions_of_others_are_neither_seen_nor_touched(private: PrivateTmux, server: TmuxServer) -> None:
    private.tmux("new-session", "-d", "-s", "coder0", "cat")
    private.tmux("new-session", "-d", "-s", "coder", "cat")
    with pytest.raises(SessionNameTaken):
        await server.start(launch("cat", name="coder0"))
    ours = await server.start(launch("cat", name="code"))
    assert [one.name for one in (await server.observe()).sessions] == ["code"]
    await server.kill(ours)
    await server.kill(ours)
    assert (await server.observe()).sessions == []
    await server.kill_holder()
    left = private.tmux("list-sessions", "-F", "#{session_name}").split()
    assert left == ["coder", "coder0"]


async def test_a_holder_of_another_home_is_left_alone(private: PrivateTmux, server: TmuxServer) -> None:
    await server.control()
    await server.close()
    other = TmuxServer(server.key, home="bbbbbbbb", environment=private.environment)
    try:
        with pytest.raises(SessionNameTaken):
            await other.control()
        assert not await other.attach_existing()
    finally:
        await other.close()


async def test_a_control_client_that_a_killed_host_agent_left_is_ended(
    private: PrivateTmux, server: TmuxServer
) -> None:
    await server.control()
    await server.close()
    command = [*("tmux", "-L", private.socket_name, "-C", "attach", "-t", f"={HOLDER}:", "-f"), "no-output,ignore-size"]
    left = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, env=private.environment
    )
    clients = ["list-clients", "-F", "#{client_pid}"]
    while private.tmux(*clients).split() != [str(left.pid)]:
        await asyncio.sleep(0.01)
    control = await server.control()
    await left.wait()
    assert (await server.run(clients)) == [[str(control.pid)]]


async def test_two_host_agents_never_drive_one_server(private: PrivateTmux, server: TmuxServer) -> None:
    await server.control()
    second = TmuxServer(server.key, home="bbbbbbbb", environment=private.environment)
    with pytest.raises(TmuxServerHeld) as held:
        await second.control()
    assert str(os.getpid()) in held.value.why
    await server.close()
    second.hold()
    await second.close()


async def test_a_window_that_a_person_splits_is_still_one_seat(private: PrivateTmux, server: TmuxServer) -> None:
    session = await server.start(launch("cat"))
    private.tmux("split-window", "-t", "=coder0:", "sleep 100")
    (found,) = (await server.observe()).sessions
    assert found == session
    private.tmux("kill-pane", "-t", session.pane_id)
    (found,) = (await server.observe()).sessions
    assert not found.alive


async def test_the_default_server_needs_no_name_and_is_never_ended(private: PrivateTmux) -> None:
    private.tmux("new-session", "-d", "-s", "a-persons-own", "cat", socket_name="default")
    server = TmuxServer(ServerKey("", HOLDER), home="aaaaaaaa", environment=private.environment)
    try:
        session = await server.start(launch("cat"))
        await server.kill(session)
        await server.kill_holder()
    finally:
        await server.close()
    assert private.tmux("list-sessions", "-F", "#{session_name}", socket_name="default") == "a-persons-own\n"


async def test_a_named_server_does_not_touch_the_default_one(private: PrivateTmux, server: TmuxServer) -> None:
    private.tmux("new-session", "-d", "-s", "a-persons-own", "cat", socket_name="default")
    seen = ["list-panes", "-a", "-F", "#{pid} #{session_name} #{pane_pid} #{session_created} #{client_pid}"]
    before = private.tmux(*seen, socket_name="default") + private.tmux("list-clients", socket_name="default")
    session = await server.start(launch("cat"))
    await server.observe()
    await server.kill(session)
    await server.kill_holder()
    assert before == private.tmux(*seen, socket_name="default") + private.tmux("list-clients", socket_name="default")


async def test_a_tmux_that_is_missing_or_too_old_is_told(tmp_path: Path) -> None:
    with pytest.raises(TmuxMissing):
        await tmux_version({"PATH": str(tmp_path)})
    for said, good in [("tmux 3.1c", False), ("tmux 2.9a", False), ("rubbish", False), ("tmux 3.2", True)]:
        (tmp_path / "tmux").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "tmux").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        if good:
            assert await tmux_version(environment) == (3, 2)
        else:
            with pytest.raises(TmuxTooOld):
                await tmux_version(environment)
