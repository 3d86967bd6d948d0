"""Edits a roster's text so that it says what is wanted, and keeps what a person wrote: comments, order, spelling.

Every edit is verified by reading the result. A text in block style is changed line by line; one in flow style, or JSON,
is written anew around the same keys. Agents stay in the file's order; new ones come last.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML

from mosaic_framework.catalog import Catalog
from mosaic_framework.document import entry_of, read_tree
from mosaic_framework.errors import FleetError
from mosaic_framework.floor import Canonical, with_agent, without_agents
from mosaic_framework.marked import Entry, ListNode, MapNode, Problems
from mosaic_framework.roster_file import RosterInvalid, dump_roster, parse_roster
from mosaic_framework.roster_model import Agent, Roster
from mosaic_framework.splice import NotSpliceable, Splicer

Data = dict[str, Any]
_FREE = ("env", "runtimes")


class EditFailed(FleetError):
    """The roster is written in a way that this program cannot edit without losing something."""

    code = "roster-edit-failed"


def add_agent(text: str, agent: Agent, *, source: str, catalog: Catalog, canonical: Canonical) -> str:
    """Return the text with one more agent. Raises RosterInvalid, Conflict, FloorBroken, EditFailed."""
    before = parse_roster(text, source=source, catalog=catalog).roster
    wanted = _checked(with_agent(before, agent, canonical), source=f"agent {agent.name}", catalog=catalog)
    return edit_roster(text, wanted, source=source, catalog=catalog)


def remove_agents(text: str, names: list[str], *, source: str, catalog: Catalog, canonical: Canonical) -> str:
    """Return the text without these agents. Raises RosterInvalid, NotFound, FloorBroken, EditFailed."""
    before = parse_roster(text, source=source, catalog=catalog).roster
    return edit_roster(text, without_agents(before, names, canonical), source=source, catalog=catalog)


def edit_roster(text: str, wanted: Roster, *, source: str, catalog: Catalog) -> str:
    """Return the text changed as little as can be so that it reads as `wanted`. Raises RosterInvalid, EditFailed."""
    before = parse_roster(text, source=source, catalog=catalog).roster
    if same(before, wanted):
        return text
    ways: list[Callable[[], str]] = [
        lambda: _splice(text, source, before, wanted),
        lambda: _rewrite(text, source, before, wanted),
    ]
    for way in ways:
        try:
            changed = way()
            if same(parse_roster(changed, source=source, catalog=catalog).roster, wanted):
                return changed
        except (NotSpliceable, RosterInvalid):
            continue
    raise EditFailed(
        f"{source} could not be edited without losing what is in it",
        why="it is written in a way that the edit does not see through, such as with anchors",
        next_step=f"edit {source} by hand, or write its agents one key a line",
    )


def same(one: Roster, other: Roster) -> bool:
    """Return whether two rosters say the same, whatever the order of their agents."""
    return _unordered(one) == _unordered(other)


def _unordered(roster: Roster) -> Data:
    data = roster.normalised()
    data["agents"] = {agent["name"]: agent for agent in data["agents"]}
    return data


def _checked(roster: Roster, *, source: str, catalog: Catalog) -> Roster:
    """Return the roster after the rules that look at several fields; an edit must not write what it would refuse."""
    return parse_roster(dump_roster(roster), source=source, catalog=catalog).roster


def _whole(model: Roster | Agent) -> Data:
    return model.model_dump(by_alias=True, mode="json")


def _short(agent: Agent) -> Data:
    return agent.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def _splice(text: str, source: str, before: Roster, wanted: Roster) -> str:
    tree = read_tree(text, Problems(source))
    if source.endswith(".json") or not isinstance(tree, MapNode) or not tree.block:
        raise NotSpliceable
    splicer = Splicer(text)
    end = len(splicer.lines)
    agents = entry_of(tree, "agents")
    if agents is None or not isinstance(agents.node, ListNode):
        raise NotSpliceable
    _splice_map(splicer, tree, end, _without_agents(_whole(before)), _whole(wanted), wanted.normalised())
    _splice_agents(splicer, agents.node, splicer.entry_end(tree, agents, end), before, wanted)
    return splicer.result()


def _without_agents(data: Data) -> Data:
    return {key: value for key, value in data.items() if key != "agents"}


def _splice_agents(splicer: Splicer, items: ListNode, end: int, before: Roster, wanted: Roster) -> None:
    after = {agent.name: agent for agent in wanted.agents}
    for index, agent in enumerate(before.agents):
        now = after.pop(agent.name, None)
        node = items.items[index]
        if now is None:
            splicer.remove_item(items, index, end)
        elif isinstance(node, MapNode) and node.block:
            inner = splicer.item_end(items, index, end)
            _splice_map(splicer, node, inner, _whole(agent), _whole(now), _short(now))
        elif agent != now:
            splicer.replace_item(items, index, end, _short(now))
    if after:
        splicer.append_items(items, end, [_short(agent) for agent in after.values()])


def _splice_map(
    splicer: Splicer, node: MapNode, end: int, before: Data, after: Data, short: Data, *, free: bool = False
) -> None:
    """Bring a map from `before` to `after`, key by key.

    `short` is `after` without what is only a default. `free`: its keys are a person's own and have one spelling.
    """
    for key in [*before, *(key for key in short if key not in before and key != "agents")]:
        if before.get(key) == after.get(key) and (key in before) == (key in after):
            continue
        entry = node.entries.get(key) if free else entry_of(node, key)
        value, old = short.get(key), before.get(key)
        if key not in short:
            if entry is not None:
                splicer.remove_entry(node, entry, end)
        elif entry is None:
            splicer.insert_entry(node, _place(node, key, list(after)), end, key, value)
        elif _is_block(entry) and isinstance(value, dict) and value and isinstance(old, dict):
            inner = splicer.entry_end(node, entry, end)
            _splice_map(splicer, _map(entry), inner, old, after[key], value, free=key in _FREE)
        else:
            splicer.replace_entry(node, entry, end, value)


def _place(node: MapNode, key: str, order: list[str]) -> Entry:
    """Return the entry below which a new key belongs: the nearest before it in the model's order, else the last."""
    earlier = order[: order.index(key)]
    found = next((entry for name in reversed(earlier) if (entry := entry_of(node, name)) is not None), None)
    return found or list(node.entries.values())[-1]


def _is_block(entry: Entry) -> bool:
    return isinstance(entry.node, MapNode) and entry.node.block and bool(entry.node.entries)


def _map(entry: Entry) -> MapNode:
    if not isinstance(entry.node, MapNode):
        raise NotSpliceable
    return entry.node


def _rewrite(text: str, source: str, before: Roster, wanted: Roster) -> str:
    """Change the parsed document in place and write it anew; YAML keeps the comments that ruamel can carry."""
    is_json = source.endswith(".json") or text.lstrip().startswith("{")
    if is_json:
        document = json.loads(text.removeprefix("\ufeff"))
        _update(document, _without_agents(_whole(before)), _whole(wanted), wanted.normalised())
        _update_agents(document["agents"], before, wanted)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 2**16
    document = yaml.load(text)
    _update(document, _without_agents(_whole(before)), _whole(wanted), wanted.normalised())
    _update_agents(document["agents"], before, wanted)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _update_agents(rows: list[Any], before: Roster, wanted: Roster) -> None:
    after = {agent.name: agent for agent in wanted.agents}
    gone = [index for index, agent in enumerate(before.agents) if agent.name not in after]
    for index, agent in enumerate(before.agents):
        now = after.pop(agent.name, None)
        if now is not None:
            _update(rows[index], _whole(agent), _whole(now), _short(now))
    for index in reversed(gone):
        del rows[index]
    rows.extend(_short(agent) for agent in after.values())


def _update(container: Any, before: Data, after: Data, short: Data, *, free: bool = False) -> None:
    for key in [*before, *(key for key in short if key not in before and key != "agents")]:
        if before.get(key) == after.get(key) and (key in before) == (key in after):
            continue
        spelled = key if free or key in container or to_camel(key) not in container else to_camel(key)
        old, value = before.get(key), short.get(key)
        if key not in short:
            container.pop(spelled, None)
        elif isinstance(container.get(spelled), dict) and isinstance(old, dict) and isinstance(value, dict):
            _update(container[spelled], old, after[key], value, free=key in _FREE)
        else:
            container[spelled] = value
