"""What makes a runtime tell what it does: files of ours in a folder of ours, and the arguments that point to them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.catalog import shipped_data
from mosaic_framework.manifest import Manifest
from mosaic_framework.marks import merge
from pydantic import JsonValue

from mosaic_hostagent import reporter
from mosaic_hostagent.storage import write_state

FOLDER = "signals"


def reporter_command() -> str:
    """Return the command line that a hook runs, for a shell; it ends well even where our files are gone."""
    command = shlex.join([sys.executable, "-I", "-S", str(Path(reporter.__file__).resolve())])
    return f"{command} __EVENT__ 2>/dev/null || :"


@dataclass(frozen=True, slots=True)
class SignalSetup:
    """What a launch gets so that its program reports. `settings`: JSON that joins the session's own file of a name."""

    args: list[str]
    env: dict[str, str]
    settings: dict[str, JsonValue]


def signal_setup(manifest: Manifest, *, state_folder: Path) -> SignalSetup:
    """Return what makes the program report to us; writes the files that it names, where they are not as they should be.

    They are the same for every session on this host, which tells itself by its environment. Raises StateUnwritable.
    """
    signals = manifest.signals
    folder = state_folder / FOLDER
    for name in signals.files:
        _write_changed(folder / name, _shipped(name))
    return SignalSetup(
        args=[*toml_hooks(signals.toml_hooks), *(_placed(one, folder) for one in signals.args)],
        env={key: _placed(value, folder) for key, value in signals.env.items()},
        settings={name: json.loads(filled(_shipped(name))) for name in signals.settings},
    )


def with_settings(files: Mapping[str, JsonValue], signals: SignalSetup) -> dict[str, JsonValue]:
    """Return a session's files, name → content, with our settings joined into those of the same name."""
    joined = {name: merge(files[name], ours) if name in files else ours for name, ours in signals.settings.items()}
    return {**files, **joined}


def _shipped(name: str) -> str:
    return (shipped_data() / "runtimes" / "signals" / name).read_text(encoding="utf-8")


def filled(content: str) -> str:
    """Return a file with `__REPORT__ EVENT__`-marks as the command line that reports, escaped for a JSON string."""
    lines = []
    for line in content.splitlines(keepends=True):
        before, mark, rest = line.partition("__REPORT__ ")
        if mark:
            event, quote, after = rest.partition('"')
            command = reporter_command().replace("__EVENT__", shlex.quote(event))
            line = f"{before}{json.dumps(command)[1:-1]}{quote}{after}"
        lines.append(line)
    return "".join(lines)


def toml_hooks(events: Mapping[str, int]) -> list[str]:
    """Return the overrides that give Codex a hook for each event, and trust in exactly these.

    The hash is Codex's own of a hook (0.169): SHA-256 of its event and handler as JSON, keys sorted, no spaces.
    """
    args, trusted = [], []
    for event, seconds in events.items():
        command = reporter_command().replace("__EVENT__", event)
        handler = {"async": False, "command": command, "timeout": seconds, "type": "command"}
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", event).lower()
        identity = json.dumps({"event_name": name, "hooks": [handler]}, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        toml = f'[{{hooks=[{{type="command",command={json.dumps(command)},timeout={seconds}}}]}}]'
        args += ["-c", f"hooks.{event}={toml}"]
        trusted.append(f'"/<session-flags>/config.toml:{name}:0:0"={{trusted_hash="sha256:{digest}"}}')
    return [*args, "-c", f"hooks.state={{{','.join(trusted)}}}"] if trusted else []


def _write_changed(path: Path, content: str) -> None:
    try:
        if path.read_text(encoding="utf-8") == content:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    write_state(path, content.encode())


def _placed(text: str, folder: Path) -> str:
    return text.replace("{folder_json}", json.dumps(str(folder))[1:-1]).replace("{folder}", str(folder))
