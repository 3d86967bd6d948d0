"""What a command tells the supervisor is heard, though the command leaves at once."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
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

    def tell() -> None:
        with control(home) as connection:
            assert connection is not None
            connection.restart("hostagent")

    supervisor, teller = Thread(target=supervise), Thread(target=tell)
    supervisor.start()
    teller.start()
    teller.join(0.2)
    assert teller.is_alive()
    looks.set()
    teller.join()
    assert b"".join(heard) == b"restart hostagent\n"
    supervisor.join()


def test_a_command_leaves_a_supervisor_that_ends(home: Home, listener: socket.socket) -> None:
    with control(home) as connection:
        assert connection is not None
        accepted, _ = listener.accept()
        accepted.close()
        connection.look()
