"""What the programs of this machine say of themselves in run/*.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_framework.identity_files import StoredIdentity, alone
from mosaic_framework.paths import Home

from mosaic_cli.machine.processes import Process


@dataclass(frozen=True, slots=True)
class LocalControlPlane:
    """The control plane of this machine, as it says itself."""

    pid: int
    enrol_address: str
    fleet_address: str
    trust_domain: str
    peer_address: str = ""


def local_controlplane(home: Home) -> LocalControlPlane | None:
    """Return where this machine's control plane serves; None while it does not."""
    try:
        found = json.loads((home.run / "controlplane.json").read_text("utf-8"))
        if Process.running(int(found["pid"])) is None:
            return None
        return LocalControlPlane(
            int(found["pid"]),
            _dialable(found["enrol_address"]),
            _dialable(found["fleet_address"]),
            str(found["trust_domain"]),
            _dialable(found.get("peer_address", "")) if found.get("peer_address") else "",
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def host_folder(home: Home) -> Path:
    """Return where the identity of this machine's host lies."""
    return home.pki / "host"


def host_identity(home: Home) -> StoredIdentity | None:
    """Return this machine's identity as a host; None when it has none. Raises what reading a damaged one raises."""
    folder = host_folder(home)
    return StoredIdentity.load(folder) if (folder / "identity.json").exists() else None


def sessions_may_live(home: Home) -> bool:
    """Whether the host-agent has sessions on record that were never released: agents outlive it, however it ends."""
    try:
        return bool(json.loads((home.state / "tmux-servers.json").read_text("utf-8")))
    except FileNotFoundError:
        return False
    except ValueError:
        return True  # damaged: `mosaic-hostagent release` says so


def refresh_host_addresses(home: Home) -> None:
    """Let this machine's host dial its own control plane where that serves now, should its port have changed."""
    identity, here = host_identity(home), local_controlplane(home)
    if identity is None or here is None or identity.trust_domain != here.trust_domain:
        return
    if identity.fleet_addresses != [here.fleet_address]:
        with alone(host_folder(home)):  # the host-agent may renew it at this moment
            replace(StoredIdentity.load(host_folder(home)), fleet_addresses=[here.fleet_address]).save(
                host_folder(home)
            )


def _dialable(address: str) -> str:
    """Return an address that can be dialled: what listens everywhere is dialled here."""
    host, _, port = str(address).rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]", "") else str(address)  # noqa: S104  compared, not bound
