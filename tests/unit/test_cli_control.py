"""What a command tells the supervisor is heard, though the command leaves at once."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from mosaic_cli.machine import control as control_module
from mosaic_cli.machine.control import control
from mosaic_framework.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    found.run.mkdir(parents=True)
    return found


@pytest.fixture
def listener(home: Home) -> Iterator[socket.socket]:
    """Lend what listens where the supervisor of this home would."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lent:
        path = f"{folder}/s"
        lent.bind(path)
        lent.listen()
        (home.run / "supervisor.json").write_text(json.dumps({"pid": 1, "socket": path}))
        yield lent


def test_a_command_leaves_when_a_slow_supervisor_has_read_what_it_said(home: Home, listener: socket.socket) -> None:
    looks, heard = Event(), []

    def supervise() -> None:
        connection, _ = listener.accept()
        with connection:
            looks.wait()
            connection.sendall(b"{}\n")  # raises where the command is gone: it says how things are before it reads
            while said := connection.recv(1024):
                heard.append(said)
            heard.append(b"and no more")

    def tell() -> None:
        with control(home) as connection:
            assert connection is not None
            connection.restart("hostagent")

    supervisor, teller = Thread(target=supervise, daemon=True), Thread(target=tell, daemon=True)
    supervisor.start()
    teller.start()
    teller.join(0.2)
    assert teller.is_alive()
    looks.set()
    supervisor.join(5)
    assert b"".join(heard) == b"restart hostagent\nand no more", "it is told at once that nothing else comes"
    teller.join(5)
    assert not teller.is_alive()


def test_a_command_leaves_a_supervisor_that_ends(home: Home, listener: socket.socket) -> None:
    with control(home) as connection:
        assert connection is not None
        accepted, _ = listener.accept()
        accepted.close()
        connection.look()


def test_a_command_that_said_nothing_does_not_wait_for_a_supervisor_that_hangs(
    home: Home, listener: socket.socket
) -> None:
    def look() -> None:
        with control(home) as connection:
            assert connection is not None

    looker = Thread(target=look, daemon=True)
    looker.start()
    looker.join(5)
    assert not looker.is_alive()


def test_a_command_gives_up_a_supervisor_that_does_not_read(
    home: Home, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "_HEARD_WITHIN", 0.05)
    with control(home) as connection:
        assert connection is not None
        connection.look()


def test_a_supervisor_that_is_killed_before_it_reads_tells_no_more_states(home: Home, listener: socket.socket) -> None:
    with control(home) as connection:
        assert connection is not None
        accepted, _ = listener.accept()
        accepted.sendall(b'{"services": []}\n')
        connection.look()
        accepted.close()  # with a word unread in it: the other side hears a reset, not an end
        assert list(connection.states(time.monotonic() + 5)) == [[]]
