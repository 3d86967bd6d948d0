"""What is logged has constant words, so that lines can be counted and searched; data is in fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["controlplane/mosaic_controlplane", "hostagent/mosaic_hostagent", "framework/mosaic_framework"]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
FILES = sorted(file for program in PROGRAMS for file in (ROOT / program).rglob("*.py"))
SECRET = {"token", "secret", "password", "key", "key_pem", "private_key", "body", "url"}


def calls(file: Path) -> Iterator[tuple[ast.Call, ast.expr | None]]:
    """Every call of `log`, with the expression that is its message."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=name)) if name in LEVELS:
                yield node, node.args[0] if node.args else None
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr="log")):
                yield node, node.args[1] if len(node.args) > 1 else None


@pytest.mark.parametrize("file", [file for file in FILES if list(calls(file))], ids=lambda file: file.name)
def test_a_log_line_has_a_constant_message_in_lower_case_and_no_field_named_as_a_secret(file: Path) -> None:
    for call, message in calls(file):
        where = f"{file}:{call.lineno}"
        assert isinstance(message, ast.Constant), where
        assert isinstance(message.value, str), where
        assert message.value[:1].islower(), where
        assert not {one.arg for one in call.keywords} & SECRET, where
