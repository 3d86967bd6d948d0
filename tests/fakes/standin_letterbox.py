"""The letterbox of a stand-in: takes messages without keystrokes at $MOSAIC_LETTERBOX, one a connection.

`takes`; `refuses`: the first one, after a greeting that promised to take it; `hangs-up`: takes it and never says so;
`never-greets`: a program that is stuck; `unable`: says in its greeting why it takes none.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable


def listen(kind: str, took: Callable[[str], None], idle: Callable[[], bool]) -> None:
    """Serve in a thread until the program ends."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.environ["MOSAIC_LETTERBOX"])
    server.listen()
    threading.Thread(target=_serve, args=(server, kind, took, idle), daemon=True).start()


def _serve(server: socket.socket, kind: str, took: Callable[[str], None], idle: Callable[[], bool]) -> None:
    refusing, kept = kind == "refuses", []
    while True:
        connection, _ = server.accept()
        if kind == "never-greets":
            kept.append(connection)
            continue
        with connection, connection.makefile("rw", encoding="utf-8") as lines:
            refuses = "it has no model" if kind == "unable" else ""
            lines.write(json.dumps({"ready": True, "idle": idle(), "refuses": refuses}) + "\n")
            lines.flush()
            line = lines.readline()
            if not line:
                continue
            message = json.loads(line)
            if refusing:
                refusing = False
                answer = {"id": message["id"], "refused": "it has just begun to work"}
            else:
                took(message["text"])
                if kind == "hangs-up":
                    continue
                answer = {"id": message["id"], "given": True}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
