"""mosaic-report EVENT: what a runtime's hook calls. It gives one event to the host-agent and ends with 0, always.

Run as `python -I -S reporter.py EVENT < JSON`. It costs each hook what it costs to start, so it imports only what is
built into the interpreter, or one file away (`_socket`: `socket` alone would double it; see bench/reporter.py).
What the host-agent answers goes to standard output, which is how a hook speaks to its runtime. What cannot be
delivered is appended to the session's spool, a line each, and read by the host-agent when it is back.
"""

import _signal  # type: ignore[import-not-found]  # the stubs know only `signal`, which imports enum
import _socket
import binascii
import posix
import sys
import time

PATIENCE_SECONDS = 2
PAYLOAD_LIMIT = 1024 * 1024
SPOOL_LIMIT = 16 * 1024 * 1024
_HARMLESS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def main() -> None:
    """Report the event that the arguments name, with the JSON of the last one or of standard input."""
    try:
        # Whatever blocks, a pipe that nobody closes or a host-agent that is stopped: the runtime waits no longer.
        _signal.signal(_signal.SIGALRM, lambda *_: posix._exit(0))
        _signal.alarm(2 * PATIENCE_SECONDS)
        event, *rest = sys.argv[1:] or ["unknown"]
        report(event, rest[-1].encode(errors="replace") if rest else _standard_input())
    except BaseException:  # noqa: BLE001, S110 - a hook that fails would disturb the work that it only tells of
        pass
    posix._exit(0)


def report(event: str, payload: bytes) -> None:
    """Deliver one event, or spool it."""
    if len(payload) > PAYLOAD_LIMIT:
        payload = b""
    header = _header(event)
    try:
        answer = _deliver(header, payload)
    except OSError:
        _spool(header, payload)
        return
    status, _, output = answer.partition(b"\n")
    if status == b"ok" and output:
        posix.write(1, output)
        _deliver(_header("handover-taken"), b"")


def _deliver(header: bytes, payload: bytes) -> bytes:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_SECONDS)
    connection.connect(posix.environ[b"MOSAIC_AGENT_SOCKET"] + b".report")
    connection.sendall(header + b"\n" + payload)
    connection.shutdown(_socket.SHUT_WR)
    answer = b""
    while part := connection.recv(65536):
        answer += part
    if not answer or answer.startswith(b"later"):
        raise OSError("not taken yet")
    return answer


def _spool(header: bytes, payload: bytes) -> None:
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NOFOLLOW
    file = posix.open(posix.environ[b"MOSAIC_REPORT_SPOOL"], flags, 0o600)
    if posix.fstat(file).st_size < SPOOL_LIMIT:
        # One write: lines of several reporters do not mix.
        posix.write(file, header + b"\t" + binascii.b2a_base64(payload))


def _header(event: str) -> bytes:
    token = _harmless(posix.environ.get(b"MOSAIC_AGENT_TOKEN", b"").decode(errors="replace"))
    now = time.time_ns()
    return (
        f'{{"token": "{token}", "event": "{_harmless(event)}", "id": "{posix.getpid()}-{now}", "at_ns": {now}}}'
    ).encode()


def _harmless(text: str) -> str:
    return "".join(letter for letter in text[:200] if letter in _HARMLESS)


def _standard_input() -> bytes:
    if posix.isatty(0):
        return b""
    content = b""
    while part := posix.read(0, 65536):
        if len(content) <= PAYLOAD_LIMIT:
            content += part
    return content


if __name__ == "__main__":
    main()
