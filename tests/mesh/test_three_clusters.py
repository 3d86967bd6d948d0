"""Three clusters on machines of their own, A with B, B with C: each sees what it is granted, nothing through B."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from mosaic_proto.v1 import fleet_pb2 as pb

from tests.support.mesh import Mesh, running_mesh
from tests.support.namespaces import Network, network
from tests.support.owned_rows import owned
from tests.support.peer_views import view
from tests.support.peers import grant, pair, ungrant
from tests.support.postgres import Databases


@pytest.fixture
def switch() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
async def clusters(switch: Network, databases: Databases) -> AsyncIterator[dict[str, Mesh]]:
    """A control plane in each of three network namespaces, each with a register that only it uses."""
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for name in ("a", "b", "c"):
            prefix, url = switch.add(name), databases.create()
            stack.callback(databases.drop, url)
            made[name] = await stack.enter_async_context(
                running_mesh(
                    url, listen=switch.address(name), prefix=prefix, environment={"MOSAIC_CLUSTER": f"cluster-{name}"}
                )
            )
        yield made


async def test_a_sees_of_b_what_it_is_granted_and_nothing_of_c(clusters: dict[str, Mesh], switch: Network) -> None:
    a, b, c = clusters["a"], clusters["b"], clusters["c"]
    with_a = await pair(a, b, name_of_first="a", name_of_second="b")
    with_c = await pair(b, c, name_of_first="b", name_of_second="c")
    async with owned(b) as of_b, owned(c) as of_c, view(a, "b") as at_a, view(b, "c") as at_b:
        ada = await of_b.agent(await of_b.host("b1"), "ada")
        await of_b.agent(await of_b.host("b2"), "bob", class_name="reviewer")
        await of_c.agent(await of_c.host("c1"), "cid")
        await grant(c, with_c.peer_id, "see", "*", fields=("detail", "work", "process"))
        await grant(b, with_c.peer_id, "see", "*")
        await at_b.until(lambda: at_b.agents.keys() == {"cid"})
        narrow = await grant(b, with_a.peer_id, "see", "class=builder")
        await at_a.until(lambda: at_a.agents.keys() == {"ada"} and at_a.hosts == {"b1"})
        everything = await grant(b, with_a.peer_id, "see", "*")
        await at_a.until(lambda: at_a.agents.keys() == {"ada", "bob"})

        # B shows all that it has, and knows cid: what it does not own it serves to nobody.
        seen = await a.fleet.ListAgents(pb.ListAgentsRequest(cluster="*"))
        assert {(agent.cluster, agent.name) for agent in seen.agents} == {("b", "ada"), ("b", "bob")}
        assert [peer.name for peer in seen.peers] == ["b"]
        allowed = {"id", "tenant", "host", "name", "class", "runtime", "alias", "state", "state_since", "reported_at"}
        allowed |= {"desired_running", "cluster"}
        assert {field.name for agent in seen.agents for field, _ in agent.ListFields()} == allowed

        # The plug is pulled; meanwhile B changes, takes a grant back, and hears nothing of A.
        switch.cut("a")
        await of_b.set_state([ada], "stuck")
        await ungrant(b, with_a.peer_id, everything)
        switch.heal("a")
        await at_a.until(lambda: at_a.agents.keys() == {"ada"} and at_a.agents["ada"].state == pb.AGENT_STATE_STUCK)
        await ungrant(b, with_a.peer_id, narrow)
        await at_a.until(lambda: not at_a.agents and not at_a.hosts)
        await at_b.until(lambda: at_b.agents.keys() == {"cid"})
