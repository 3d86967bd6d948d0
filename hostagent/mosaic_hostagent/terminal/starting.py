"""The tmux commands that make our sessions (pure; small, since every waiter of a systemd unit imports it)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mosaic_hostagent.environment import is_ours
from mosaic_hostagent.terminal.quoting import literal

WIDTH, HEIGHT = 200, 50
HISTORY_LINES = 20_000
_HOLDER_PROGRAM = ("tail", "-f", "/dev/null")


def session_name(agent: str) -> str:
    """Return the session's name: tmux would turn "." into "_", and two names into one; "+" is in no agent's name."""
    return agent.replace(".", "+")


def start_commands(
    launch: Mapping[str, object],
    *,
    home: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    global_variables: Iterable[str],
) -> list[list[str]]:
    """Return what starts a program in a session of its own and marks it ours, with nothing of anybody's between.

    `launch` has the plain fields of a Launch. The first command prints session id, pane id and pid.
    """
    name = session_name(str(launch["name"]))
    target = f"={name}:"
    words = list(argv)
    if len(words) == 1:  # tmux would give a single word to a shell, spaces, semicolons and all
        words = ["sh", "-c", 'exec "$0"', *words]
    leaking = {variable: "" for variable in global_variables if is_ours(variable)}
    variables = [word for key, value in {**leaking, **env}.items() for word in ("-e", f"{key}={value}")]
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    folder = ["-c", literal(str(launch["folder"]))]
    marks = {
        "@mosaic_home": home,
        "@mosaic_agent": launch["agent_id"],
        "@mosaic_run": launch["run_id"],
        "@mosaic_generation": launch["generation"],
        "@mosaic_restart": launch["restart"],
        "@mosaic_launch": launch["launch_digest"],
        "@mosaic_model": launch["model"],
        "@mosaic_reset": launch["reset"],
        "destroy-unattached": "off",
    }
    format_ = "#{session_id}\t#{pane_id}\t#{pane_pid}"
    return [
        ["new-session", "-d", "-P", "-F", format_, "-s", name, *size, *folder, *variables, "--", *words],
        ["set-option", "-w", "-t", target, "remain-on-exit", "on"],
        # No "Pane is dead" over the last words: it would scroll them, and look like the effect of an Enter.
        ["set-option", "-q", "-w", "-t", target, "remain-on-exit-format", ""],
        ["set-option", "-p", "-t", target, "@mosaic_seat", "1"],
        *(["set-option", "-t", target, option, str(value)] for option, value in marks.items()),
    ]


def holder_commands(holder: str, *, home: str, own_server: bool) -> list[list[str]]:
    """Return what starts a server, should there be none, and our holder session on it."""
    target = f"={holder}:"
    commands = [
        ["new-session", "-d", "-s", holder, "-x", str(WIDTH), "-y", str(HEIGHT), *_HOLDER_PROGRAM],
        ["set-option", "-t", target, "@mosaic_home", home],
        ["set-option", "-t", target, "@mosaic_holder", "1"],
        ["set-option", "-t", target, "destroy-unattached", "off"],
    ]
    if own_server:
        # A server of our own: a person's configuration must not change what agents meet on it.
        commands.append(["set-option", "-g", "history-limit", str(HISTORY_LINES)])
    return commands
