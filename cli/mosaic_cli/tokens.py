"""Reading a one-time token: from a file or standard input, never from an argument, which others can see."""

from __future__ import annotations

import sys
from pathlib import Path

from mosaic_framework.enrolment import TOKEN_LIMIT, JoinToken
from mosaic_framework.errors import TokenInvalid

from mosaic_cli.failures import UsageError

_MADE_BY = {
    "host": "mosaic host token NAME",
    "operator": "mosaic-controlplane operator-token --name NAME",
    "peer": "mosaic peer token NAME, on the other cluster,",
}
_USED_BY = {"host": "mosaic host join", "operator": "mosaic login", "peer": "mosaic peer join"}


def read_token(file: Path | None, *, kind: str) -> JoinToken:
    """Return the token. Raises TokenInvalid for rubbish or one of another kind, UsageError for nothing."""
    text = _text(file)
    if not text.strip():
        made_by = _MADE_BY[kind]
        raise UsageError(
            "there is no token",
            why="standard input was empty" if file is None else f"{file} is empty",
            next_step=f"{made_by} makes one; give it on standard input or with --token-file",
        )
    try:
        token = JoinToken.parse(text)
    except TokenInvalid as error:
        error.next_step = f"copy the whole token; {_MADE_BY[kind]} makes another one"
        raise
    if token.kind != kind:
        raise TokenInvalid(
            f"this token is for {_article(token.kind)}, not for {_article(kind)}",
            why=f"it was made for {token.kind} {token.name!r}",
            next_step=_USED_BY[token.kind],
        )
    return token


def _text(file: Path | None) -> str:
    if file is not None and str(file) != "-":
        with file.open("rb") as stream:
            return stream.read(TOKEN_LIMIT + 1).decode("utf-8", "replace")
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("token: ", stream=sys.stderr)
    return sys.stdin.buffer.read(TOKEN_LIMIT + 1).decode("utf-8", "replace")


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
