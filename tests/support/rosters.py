"""Valid rosters of every shape, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from mosaic_framework.fields import unprintable
from mosaic_framework.kickstart import unknown_placeholders
from mosaic_framework.roster_checks import session_name

RUNTIMES = ["claude", "codex", "opencode", "pi", "shell"]

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True).filter(lambda name: name != "default")
printable = st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]).filter(
    lambda character: not unprintable(character)
)
# What YAML would take for something else is as likely here as what it would not.
tricky = st.sampled_from(
    ["yes", "null", "~", "1", "1.5", "2001-01-01", "- a", "a: b", "# no", "'", '"', "\\", "{{x}}", "é😀", " a "]
)
lines = tricky | st.text(printable, min_size=1, max_size=20)
texts = lines | st.lists(lines | st.just(""), min_size=1, max_size=4).map(lambda parts: "\n".join(parts) or "x")
arguments = texts | st.just("")
words = lines.filter(lambda line: not line.startswith("-"))
folders = lines.map(lambda line: f"~/{line}")


def some(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


agents = some(
    {"name": names, "runtime": st.sampled_from(RUNTIMES)},
    {
        "class": names,
        "alias": lines,
        "host": names,
        "socket": names,
        "working_directory": folders,
        "model_hint": words,
        "account": words,
        "persistent_persona": st.booleans() | texts,
        "reset_between_tasks": st.booleans(),
        "lifecycle": st.sampled_from(["always", "on-demand"]),
        "reports_to": names,
        "kickstart_template": texts.filter(lambda text: not unknown_placeholders(text)),
        "labels": st.dictionaries(names, words, max_size=2),
        "unattended": st.booleans(),
        "args": st.lists(arguments, max_size=3),
        "command": st.lists(texts, min_size=1, max_size=3),
        "channels": st.lists(words, max_size=2),
        "env": st.dictionaries(
            st.from_regex(r"[A-Z_]{1,8}", fullmatch=True).map(lambda key: f"X{key}"), arguments, max_size=3
        ),
    },
)


def apart(rows: list[dict[str, Any]]) -> bool:
    sessions = [session_name(row["name"]) for row in rows]
    return len(set(sessions)) == len(sessions)


rosters = some(
    {
        "version": st.just(1),
        "transport": st.just("tmux"),
        "agents": st.lists(agents, min_size=1, max_size=4).filter(apart),
    },
    {
        "tenant": names,
        "profile": names,
        "floor": st.lists(names, max_size=3),
        "tmux": some({"holder_session": names.map(lambda name: f"{name}-holder")}, {"socket_name": names}),
        "defaults": some({}, {"working_directory": folders}),
        "runtimes": st.dictionaries(st.sampled_from(RUNTIMES), some({}, {"reset_command": lines}), max_size=2),
        "connector": st.sampled_from(
            [
                {"kind": "tmux"},
                {"kind": "discord", "discord": {"channel_id": "12"}},
                {"kind": "slack", "slack": {"channel_id": "C1"}},
            ]
        ),
    },
).filter(lambda data: "tmux" in data or all(session_name(row["name"]) != "_holder" for row in data["agents"]))
