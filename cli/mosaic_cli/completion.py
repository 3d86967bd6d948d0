"""Names for the shell's completion: from a short-lived cache, else from the control plane within 300 ms, else none."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home, write_private

BOUND = 0.3
FRESH_FOR = 30.0


def contexts(incomplete: str) -> list[str]:
    """Complete the name of a context."""
    from mosaic_cli import context

    try:
        return [name for name in context.load(Home.from_environment()).names if name.startswith(incomplete)]
    except FleetError:
        return []


def agents(ctx: Any, incomplete: str) -> list[str]:
    """Complete an agent: short names, and host/agent once a slash is typed or where a name is used twice."""
    pairs = [(entry["host"], entry["name"]) for entry in _known(ctx)["agents"]]
    names = [name for _host, name in pairs]
    options = {name for name in names if names.count(name) == 1}
    options |= {f"{host}/{name}" for host, name in pairs if "/" in incomplete or names.count(name) > 1}
    return sorted(option for option in options if option.startswith(incomplete))


def hosts(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a host."""
    return sorted(name for name in _known(ctx)["hosts"] if name.startswith(incomplete))


def peers(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a peer. They are few and change seldom: asked for each time, and not kept."""
    home = Home.from_environment()
    if not _can_ask(home):
        return []
    from mosaic_proto.v1 import peers_pb2 as pb

    from mosaic_cli.client import connect

    context, tenant = str(ctx.params.get("context") or ""), str(ctx.params.get("tenant") or "")
    try:
        with connect(context, tenant=tenant, home=home) as connection:
            request = pb.ListPeersRequest(tenant=connection.tenant)
            reply = connection.call(connection.peers.List, request, timeout=BOUND)
    except (FleetError, OSError):
        return []
    return sorted({peer.name for peer in reply.peers if peer.name.startswith(incomplete)})


def remember(home: Home, context: str, tenant: str, agents_seen: list[tuple[str, str]], hosts_seen: list[str]) -> None:
    """Keep the names of a whole listing for the next completion."""
    content = {
        "context": context,
        "tenant": tenant,
        "agents": [{"host": host, "name": name} for host, name in agents_seen],
        "hosts": hosts_seen,
    }
    write_private(_cache(home), json.dumps(content).encode())


def _known(ctx: Any) -> dict[str, Any]:
    """Return the names known for the command line's context and tenant; nothing at all rather than an error."""
    context, tenant = str(ctx.params.get("context") or ""), str(ctx.params.get("tenant") or "")
    home = Home.from_environment()
    cached = _cached(home, context, tenant)
    if cached is not None:
        return cached
    if not _can_ask(home):
        return {"agents": [], "hosts": []}

    from mosaic_cli.client import connect

    try:
        with connect(context, tenant=tenant, home=home) as connection:
            reply = connection.list_agents(timeout=BOUND)
        found_agents = [(agent.host, agent.name) for agent in reply.agents]
        found_hosts = [host.name for host in reply.hosts]
        remember(home, context, tenant, found_agents, found_hosts)
    except (FleetError, OSError):
        return {"agents": [], "hosts": []}
    return {"agents": [{"host": host, "name": name} for host, name in found_agents], "hosts": found_hosts}


def _can_ask(home: Home) -> bool:
    from mosaic_framework.pane import Pane

    from mosaic_cli import context

    if Pane.from_environment(os.environ) is not None:
        return True
    try:
        return bool(context.load(home).items)
    except FleetError:
        return False


def _cached(home: Home, context: str, tenant: str) -> dict[str, Any] | None:
    path = _cache(home)
    try:
        if time.time() - path.stat().st_mtime > FRESH_FOR:
            return None
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if (found.get("context"), found.get("tenant")) == (context, tenant) else None


def _cache(home: Home) -> Any:
    return home.state / "names.json"
