"""What an agent boots with, composed of what was applied for it (pure).

Role, persona, shared contract, notes on its program, SOUL, USER, TOOLS, mission, comms block: in this order, each
there or not. A program without a way to take it (a shell) is given nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_proto.v1.fleet_pb2 import SeatSpec
from mosaic_proto.v1.seeding_pb2 import Briefing, Peer

from mosaic_framework.comms import PEERS_TOLD, comms_block
from mosaic_framework.contracts import digest_of
from mosaic_framework.manifest import Manifest

NONE = "none"
KEEPS_PERSONA = "true"
"""What SeatSpec.persistent_persona holds when it is only kept; any other text is the persona."""
_HEADINGS = {
    "persona": "# Your persona",
    "runtime": "# The program you run in",
    "soul": "# SOUL.md: what you are to be",
    "user": "# USER.md: whom you work for",
    "tools": "# TOOLS.md: what you may use, and how",
    "mission": "# MISSION.md: what this fleet is for",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a seed: role, persona, contract, runtime, soul, user, tools, mission or comms. `digest`: SHA-256."""

    name: str
    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Seed:
    """What a seat boots with; empty where its program takes nothing."""

    parts: Sequence[Part]

    @property
    def text(self) -> str:
        """All parts, an empty line between two."""
        return "\n".join(part.text for part in self.parts)

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, in hex."""
        return digest_of(self.text)


def delivery(manifest: Manifest) -> str:
    """Return how a program is given its seed: argument, toml-argument, file or none."""
    return manifest.system_prompt.kind if manifest.system_prompt is not None else NONE


def takes_seed(manifest_json: str) -> bool:
    """Return whether the program of a manifest is given a seed. One that cannot be read is: it may be a newer one."""
    try:
        found = json.loads(manifest_json)
    except ValueError:
        return True
    return not isinstance(found, dict) or found.get("system_prompt") is not None


def peer_of(spec: SeatSpec, *, host: str) -> Peer:
    """Return what the others are told of a seat."""
    peer = Peer(
        host=host,
        name=spec.name,
        alias=spec.alias,
        runtime=spec.runtime,
        reports_to=spec.reports_to,
        summary=spec.role_summary,
    )
    setattr(peer, "class", getattr(spec, "class"))  # a word of Python's own
    return peer


def compose(spec: SeatSpec, briefing: Briefing, manifest: Manifest) -> Seed:
    """Return the seed of a seat. `spec.host` is the host's name."""
    if delivery(manifest) == NONE:
        return Seed([])
    told = {one.name: one.text for one in briefing.texts}
    persona = "" if spec.persistent_persona == KEEPS_PERSONA else spec.persistent_persona
    texts = {
        "role": spec.contract,
        "persona": persona,
        "contract": told.get("contract", ""),
        "runtime": spec.runtime_notes,
        **{name: told.get(name, "") for name in ("soul", "user", "tools", "mission")},
        "comms": own_comms_block(spec, briefing, manifest),
    }
    return Seed([_part(name, text) for name, text in texts.items() if text.strip()])


def own_comms_block(spec: SeatSpec, briefing: Briefing, manifest: Manifest, *, most: int | None = PEERS_TOLD) -> str:
    """Return the comms block of a seat; see `comms_block` for `most`."""
    me = peer_of(spec, host=spec.host)
    return comms_block(me, briefing.peers, manifest, resets=spec.reset_between_tasks, most=most)


def _part(name: str, text: str) -> Part:
    heading = _HEADINGS.get(name)
    plain = text.strip("\n") + "\n"
    whole = f"{heading}\n\n{plain}" if heading is not None else plain
    return Part(name, whole, digest_of(whole))
