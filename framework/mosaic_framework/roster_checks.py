"""Rules of a roster that look at more than one field: names apart from one another, known runtimes, no secrets.

Pure, and tolerant: they run on the tree, so that they report beside the model's own problems and not only after them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from mosaic_framework.document import entry_of
from mosaic_framework.kickstart import PLACEHOLDERS, unknown_placeholders
from mosaic_framework.marked import Entry, ListNode, MapNode, Node, Problems, ScalarNode, join, shorten, walk
from mosaic_framework.names import nearest
from mosaic_framework.roster_model import Tmux

TOKENS = {
    "discord": "DISCORD_BOT_TOKEN",
    "matrix": "MATRIX_ACCESS_TOKEN",
    "slack": "SLACK_BOT_TOKEN",
    "telegram": "TELEGRAM_BOT_TOKEN",
}
_SECRET_KEY = re.compile(r"token|secret|passw|passphrase|credential|api_?key|private_?key|webhook", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"^(?:syt_|mat_|xox[a-z]-|xapp-|sk-|ghp_|glpat-)|^\d{6,12}:[A-Za-z0-9_-]{30,}$"
    r"|^[A-Za-z0-9_-]{23,28}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}$|://[^/@\s]*:[^/@\s]*@"
)
_OURS = re.compile(r"MOSAIC_.*|TMUX|TMUX_PANE")


def check_roster(root: Node, runtimes: Collection[str], problems: Problems) -> None:
    """Note every broken rule."""
    agents = entry_of(root, "agents")
    rows = agents.node.items if agents is not None and isinstance(agents.node, ListNode) else []
    path = agents.key if agents is not None else ""
    _check_names(root, rows, path, problems)
    for index, row in enumerate(rows):
        where = join(path, index)
        _check_runtime(entry_of(row, "runtime"), where, runtimes, problems)
        _check_env(entry_of(row, "env"), where, problems)
        _check_command(entry_of(row, "command"), where, problems)
        _check_kickstart(entry_of(row, "kickstart_template"), where, problems)
    _check_overrides(entry_of(root, "runtimes"), runtimes, problems)
    _check_socket(root, problems)
    connector = entry_of(root, "connector")
    if connector is not None:
        _check_connector(connector, problems)
        _check_secrets(connector, problems)


def warn_roster(root: Node, problems: Problems) -> None:
    """Note what is allowed but likely wrong, or only read for old files."""
    agents = entry_of(root, "agents")
    rows = agents.node.items if agents is not None and isinstance(agents.node, ListNode) else []
    superiors = {text for row in rows for key in ("name", "class", "alias") if (text := _text(entry_of(row, key)))}
    superiors |= {"worker"} if any(entry_of(row, "class") is None for row in rows) else set()
    for index, row in enumerate(rows):
        where = f"agents[{index}]"
        if ssh := entry_of(row, "ssh"):
            message = "is not used: hosts are reached through the mesh; leave it out"
            problems.add(ssh.at, message, key=join(where, "ssh"))
        reports = entry_of(row, "reports_to")
        if reports is not None and (to := _text(reports)) and to not in superiors:
            near = nearest(to, superiors, limit=1)
            message = "names no agent or class of this roster"
            problems.add(reports.at, message, key=join(where, reports.key), nearest=near[0] if near else "")
        env = entry_of(row, "env")
        for key, entry in _entries(env):
            if _SECRET_KEY.search(key):
                message = (
                    "looks like a secret: the register keeps it and every operator can read it; "
                    "it belongs into the agent's env file on its host, fleet/agents/NAME.env"
                )
                problems.add(entry.at, message, key=join(join(where, "env"), key))
    classes = {_text(entry_of(row, "class")) or "worker" for row in rows}
    floor = entry_of(root, "floor")
    for item in floor.node.items if floor is not None and isinstance(floor.node, ListNode) else []:
        if isinstance(item, ScalarNode) and item.value not in classes:
            problems.add(item.at, f"no agent has the class {shorten(str(item.value))}", key="floor")


def _entries(entry: Entry | None) -> Iterator[tuple[str, Entry]]:
    if entry is not None and isinstance(entry.node, MapNode):
        yield from entry.node.entries.items()


def _text(entry: Entry | None) -> str:
    """Return the entry's value when it is text, else the empty string."""
    if entry is not None and isinstance(entry.node, ScalarNode) and isinstance(entry.node.value, str):
        return entry.node.value
    return ""


def session_name(name: str) -> str:
    """Return what tmux calls the session of an agent: it takes no '.' and puts '_' in its place."""
    return name.replace(".", "_")


def _check_names(root: Node, rows: list[Node], path: str, problems: Problems) -> None:
    tmux = entry_of(root, "tmux")
    holder = _text(entry_of(tmux.node, "holder_session")) if tmux is not None else ""
    holder = holder or str(Tmux.model_fields["holder_session"].default)
    before: dict[str, tuple[str, int]] = {}
    for index, row in enumerate(rows):
        entry = entry_of(row, "name")
        name = _text(entry)
        if entry is None or not name:
            continue
        where = join(join(path, index), "name")
        session = session_name(name)
        if session == session_name(holder):
            problems.add(entry.at, "is the name of the session that holds the tmux server", key=where)
        if session not in before:
            before[session] = (name, entry.at.line)
            continue
        other, line = before[session]
        if other == name:
            problems.add(entry.at, f"there is another agent {shorten(name)!r}, in line {line}", key=where)
        else:
            message = f"would be one tmux session with {shorten(other)!r} (line {line}): '.' and '_' are one there"
            problems.add(entry.at, message, key=where)


def _check_runtime(entry: Entry | None, where: str, runtimes: Collection[str], problems: Problems) -> None:
    name = _text(entry)
    if entry is not None and name and name not in runtimes:
        _unknown_runtime(entry, name, join(where, "runtime"), runtimes, problems)


def _check_overrides(entry: Entry | None, runtimes: Collection[str], problems: Problems) -> None:
    for name, inner in _entries(entry):
        if name not in runtimes:
            _unknown_runtime(inner, name, join("runtimes", name), runtimes, problems)


def _unknown_runtime(entry: Entry, name: str, key: str, runtimes: Collection[str], problems: Problems) -> None:
    near = nearest(name, runtimes, limit=1)
    known = "" if near else f"; there are: {', '.join(sorted(runtimes))}"
    message = f"there is no runtime {shorten(name)!r}{known}"
    problems.add(entry.at, message, key=key, nearest=near[0] if near else "")


def _check_env(entry: Entry | None, where: str, problems: Problems) -> None:
    for key, inner in _entries(entry):
        if _OURS.fullmatch(key):
            problems.add(inner.at, "is set by the host itself", key=join(join(where, "env"), key))


def _check_command(entry: Entry | None, where: str, problems: Problems) -> None:
    if entry is not None and isinstance(entry.node, ListNode) and entry.node.items:
        first = entry.node.items[0]
        if isinstance(first, ScalarNode) and first.value == "":
            problems.add(first.at, "the program's name is empty", key=join(join(where, "command"), 0))


def _check_kickstart(entry: Entry | None, where: str, problems: Problems) -> None:
    if entry is None:
        return
    text = _text(entry)
    for name, line in unknown_placeholders(text):
        near = nearest(name, PLACEHOLDERS, limit=1)
        known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
        place = f" (line {line + 1} of the text)" if "\n" in text.rstrip("\n") else ""
        message = f"there is no placeholder {{{name}}}{place}; there are {known}; {{{{{name}}}}} stands for itself"
        problems.add(entry.at, message, key=join(where, "kickstart_template"), nearest=near[0] if near else "")


def _check_socket(root: Node, problems: Problems) -> None:
    tmux = entry_of(root, "tmux")
    socket = entry_of(tmux.node, "socket_name") if tmux is not None else None
    if socket is not None and _text(socket) == "default":
        message = "this is your own tmux server; leave the key out to use it"
        problems.add(socket.at, message, key=join("tmux", socket.key))


def _check_connector(connector: Entry, problems: Problems) -> None:
    """Note a block that the kind needs and has not, and one that belongs to another kind."""
    kind = _text(entry_of(connector.node, "kind"))
    if kind in TOKENS and entry_of(connector.node, kind) is None:
        problems.add(connector.at, f"a connector of kind {kind} needs its block", key=join("connector", kind))
    for key, entry in _entries(connector):
        if kind and key in TOKENS and key != kind:
            problems.add(entry.at, f"the connector is of kind {shorten(kind)}", key=join("connector", key))


def _check_secrets(connector: Entry, problems: Problems) -> None:
    """Note every secret in the connector, without repeating it."""
    kind = _text(entry_of(connector.node, "kind"))
    where = f"set {TOKENS[kind]} in the environment" if kind in TOKENS else "it comes from the environment"
    for path, entry in walk(connector.node, "connector"):
        value = _text(entry)
        if _SECRET_KEY.search(entry.key) or _SECRET_VALUE.search(value):
            problems.add(entry.at, f"a secret does not belong in a roster: {where}", key=path)
