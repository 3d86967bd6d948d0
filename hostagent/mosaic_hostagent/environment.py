"""What of our own environment a seat may see (pure)."""

from __future__ import annotations

from collections.abc import Mapping

_TMUX = frozenset({"TMUX", "TMUX_PANE"})  # they would send a tmux command to the server that we were started in
# What systemd tells one process alone.
_SYSTEMD = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM"})


def inheritable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without what is this process's alone: its tmux, systemd's words, every MOSAIC_ setting."""
    alone = _TMUX | _SYSTEMD
    return {key: value for key, value in environment.items() if key not in alone and not is_ours(key)}


def is_ours(name: str) -> bool:
    """Say whether a variable is one of this product's, and so may carry a secret."""
    return name.startswith("MOSAIC_")
