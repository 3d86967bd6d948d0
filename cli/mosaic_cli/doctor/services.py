"""What should run on this machine, and whose rights its agents have."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic_framework import health
from mosaic_framework.paths import Home

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.machine import ports
from mosaic_cli.machine.control import supervisor
from mosaic_cli.machine.leftovers import recorded_services
from mosaic_cli.machine.local import host_identity
from mosaic_cli.machine.services import HOSTAGENT, Plan
from mosaic_cli.machine.systemd import systemd_runs_controlplane


def check(home: Home) -> Iterator[Finding]:
    """Look at the programs that `mosaic up` keeps, and at the ports that they need. Raises PortInUse."""
    plan = Plan.load(home)
    if supervisor(home) is not None or recorded_services(home) or systemd_runs_controlplane(home):
        from mosaic_cli.status_view import status_listing

        listing, well, note = status_listing(home)
        text = note or f"{len(listing.rows)} run"
        yield Finding("services", WELL if well else WRONG, text, "" if well else "mosaic up")
        return
    if elsewhere := [name for name in plan.services if health.process_told(home, name) is not None]:
        text = f"{' and '.join(elsewhere)}: kept by neither mosaic up nor this user's systemd, as in a container"
        yield Finding("services", WELL, text)
        return
    yield Finding("services", NOTE, "nothing runs on this machine", "mosaic up")
    if plan.has_controlplane and not systemd_runs_controlplane(home):
        ports.check_ports(home, plan)
        wanted = ", ".join(str(wanted.port) for wanted in ports.wanted_ports(home, plan))
        yield Finding("ports", WELL, f"free: {wanted}" if wanted else "any that are free will be taken")


def check_user(home: Home) -> Iterator[Finding]:
    """Say whether agents have the rights of the person who operates the fleet."""
    plan = Plan.load(home)
    if plan.has_controlplane and HOSTAGENT in plan.services and host_identity(home) is not None:
        text = "agents run as the user who operates the fleet, and can do what that user can"
        yield Finding(
            "user", NOTE, text, "let agents you do not trust join from a user of their own: mosaic host token NAME"
        )
    else:
        yield Finding("user", WELL, "agents of this machine do not share the operator's user")
