"""A stand-in for Claude Code's side of its hooks: fires those of `--settings`, as the program does.

It draws a composer and reads lines: each is a prompt. `ask` in one asks for permission and is answered by the next
line; `fail` ends the turn by an error of the model; `hang` never ends it.
"""

# ruff: noqa: T201, RUF001 - a program of a terminal, drawn as the real one draws

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SESSION = "52caee0c-4570-4c6f-97e0-4bf1a0d344fc"


def main() -> None:
    """Run until standard input ends."""
    if "--version" in sys.argv:
        print("2.1.329 (Claude Code)")
        return
    hooks = json.loads(Path(sys.argv[sys.argv.index("--settings") + 1]).read_text())["hooks"]

    def fire(event: str, **fields: str) -> str:
        payload = json.dumps({"session_id": SESSION, "hook_event_name": event, **fields})
        command = hooks[event][0]["hooks"][0]["command"]
        done = subprocess.run(["sh", "-c", command], input=payload, capture_output=True, text=True, check=True)
        assert done.stderr == "", done.stderr
        return done.stdout

    fire("SessionStart", source="startup", model="claude-sonnet-5-5")
    while True:
        print("❯ ", end="", flush=True)
        prompt = sys.stdin.readline().rstrip("\n")
        fire("UserPromptSubmit", prompt=prompt)
        if "hang" in prompt:
            print("· esc to interrupt", flush=True)
            sys.stdin.read()
        if "ask" in prompt:
            fire("PermissionRequest", tool_name="Bash")
            print("  ❯ 1. Yes", flush=True)
            sys.stdin.readline()
            print("\n" * 60, flush=True)
            fire("PostToolUse", tool_name="Bash")
        if "fail" in prompt:
            fire("StopFailure", error="overloaded", last_assistant_message="API Error: 400")
        else:
            fire("Stop")


if __name__ == "__main__":
    main()
