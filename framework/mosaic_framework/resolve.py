"""From a roster to what its hosts need: each seat with its manifest and contract, so that no host reads other files."""

from __future__ import annotations

from dataclasses import dataclass, field

from mosaic_proto.v1 import fleet_pb2, seeding_pb2

from mosaic_framework.briefing import read_briefing
from mosaic_framework.catalog import Catalog
from mosaic_framework.contracts import Contract, digest_of
from mosaic_framework.manifest import Manifest
from mosaic_framework.names import nearest
from mosaic_framework.roles import aliases, class_names, read_contract
from mosaic_framework.roster_file import dump_roster_json
from mosaic_framework.roster_model import Agent, Roster
from mosaic_framework.runtimes import read_manifest, read_notes


@dataclass(frozen=True, slots=True)
class Resolved:
    """What `apply` sends. `document` is the normalised roster as JSON; `warnings` are sentences for a person.

    `briefing`: what all seats are told; its peers are for the control plane to fill in.
    """

    seats: list[fleet_pb2.SeatSpec]
    document: str
    warnings: list[str]
    briefing: seeding_pb2.Briefing = field(default_factory=seeding_pb2.Briefing)


def resolve_roster(roster: Roster, *, catalog: Catalog, default_host: str = "") -> Resolved:
    """Resolve every agent of the roster. `default_host` takes those that name no host; empty: left to the receiver.

    A class without a contract is a warning; its seat works under the shared contract alone. Raises NotFound or
    ManifestInvalid for a runtime, and what reading a contract or a text of the briefing raises: one that is there and
    unreadable is no warning.
    """
    manifests = {name: read_manifest(catalog, name) for name in {agent.runtime for agent in roster.agents}}
    notes = {name: read_notes(catalog, manifest) for name, manifest in manifests.items()}
    contracts = {name: read_contract(catalog, name) for name in {agent.class_ for agent in roster.agents}}
    warnings = [_no_contract(agent, catalog) for agent in roster.agents if contracts[agent.class_] is None]
    seats = []
    for agent in roster.agents:
        seat = _seat(roster, agent, manifests[agent.runtime], contracts[agent.class_], default_host=default_host)
        seat.runtime_notes = notes[agent.runtime]
        seats.append(seat)
    return Resolved(seats, dump_roster_json(roster), warnings, read_briefing(catalog))


def _seat(
    roster: Roster, agent: Agent, manifest: Manifest, contract: Contract | None, *, default_host: str
) -> fleet_pb2.SeatSpec:
    """Return one seat. `~` in its working directory stays: it means the home on the seat's own host."""
    override = roster.runtimes.get(agent.runtime)
    if override is not None and override.reset_command is not None:
        manifest = manifest.model_copy(update={"reset_command": override.reset_command})
    persona = agent.persistent_persona
    text = contract.body if contract is not None else ""
    spec = fleet_pb2.SeatSpec(
        name=agent.name,
        host=agent.host or default_host,
        runtime=agent.runtime,
        alias=agent.alias or "",
        working_directory=agent.working_directory or roster.defaults.working_directory,
        model=agent.model_hint or "",
        account=agent.account or "",
        unattended=agent.unattended,
        args=agent.args,
        command=agent.command or [],
        env=agent.env,
        reset_between_tasks=agent.reset_between_tasks,
        persistent_persona=persona if isinstance(persona, str) else "true" if persona else "",
        lifecycle=agent.lifecycle,
        reports_to=agent.reports_to or "",
        kickstart=agent.kickstart_template or "",
        tmux_socket_name=agent.socket or roster.tmux.socket_name or "",
        tmux_holder_session=roster.tmux.holder_session,
        manifest_json=manifest.as_json(),
        labels=agent.labels,
        contract=text,
        contract_digest=digest_of(text),
        role_summary=contract.summary if contract is not None else "",
    )
    setattr(spec, "class", agent.class_)  # a word of Python's own
    return spec


def _no_contract(agent: Agent, catalog: Catalog) -> str:
    near = nearest(agent.class_, [*class_names(catalog), *aliases(catalog)], limit=1)
    hint = f"; the nearest is {near[0]}" if near else ""
    return f"agent {agent.name}: the class {agent.class_} has no contract{hint}"
