"""Names: what this machine is called, and whether the control planes it knows can be found by theirs."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mosaic_framework.paths import Home

from mosaic_cli import context as contexts
from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.doctor.proxies import proxy_names
from mosaic_cli.machine.local import host_identity, local_controlplane

_WITHIN = 3.0
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  compared, not bound


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of dialling one address. `problem`: why its name was not found, or `refusal`: why nothing answered."""

    address: str
    users: str
    problem: str = ""
    refusal: str = ""

    @property
    def host(self) -> str:
        """The name or number without its port."""
        return self.address.rpartition(":")[0].strip("[]")


def check(home: Home, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look up this machine's name and every address of a control plane that it knows, and dial them."""
    yield judge_own_name(socket.gethostname())
    here = local_controlplane(home)
    if here is not None and (finding := judge_advertised(here.fleet_address, listens_beyond=_listens_beyond(home))):
        yield finding
    known: dict[str, list[str]] = {}
    identity = host_identity(home)
    for address in identity.fleet_addresses if identity is not None else []:
        known.setdefault(address, []).append("host")
    for item in contexts.load(home).items:
        for address in item.addresses:
            known.setdefault(address, []).append(f"context {item.name}")
    if known:
        with ThreadPoolExecutor(max_workers=8) as pool:  # a resolver that is silent has its own, long patience
            reached = list(pool.map(lambda one: dial(one[0], ", ".join(one[1])), known.items()))
        for one in reached:
            yield judge_address(one, proxies=proxy_names(environment))


def judge_own_name(name: str) -> Finding:
    """Say whether this machine's name tells it from others."""
    if name.partition(".")[0] in ("", "localhost", "(none)"):
        text = f"this machine is called {name!r}, as others are: nobody can tell them apart"
        return Finding("names", NOTE, text, "sudo hostnamectl set-hostname NAME")
    return Finding("names", WELL, f"this machine is {name}")


def judge_advertised(address: str, *, listens_beyond: bool) -> Finding | None:
    """Say whether the address that this control plane tells others can be dialled by them."""
    host = address.rpartition(":")[0].strip("[]")
    if listens_beyond and (host in _EVERYWHERE or _is_loopback(host)):
        text = f"the control plane listens beyond this machine and tells others to dial {address}"
        return Finding("names", WRONG, text, "set `advertise: NAME` in controlplane.yaml, then: mosaic down; mosaic up")
    return None


def judge_address(one: Reached, *, proxies: Iterable[str]) -> Finding:
    """Say whether a control plane's address was found and answered."""
    if one.problem:
        text = f"the name of {one.address} ({one.users}) is not known here: {one.problem}"
        return Finding("names", WRONG, text, f"correct DNS or /etc/hosts until this answers: getent hosts {one.host}")
    if one.refusal:
        text = f"nothing answers at {one.address} ({one.users}): {one.refusal}"
        if through := ", ".join(proxies):
            text += f"; mosaic dials directly, not through {through}: this network has to let it"
        local = _is_loopback(one.host)
        port = one.address.rpartition(":")[2]
        return Finding("addresses", WRONG, text, "mosaic up" if local else f"nc -vz {one.host} {port}")
    return Finding("addresses", WELL, f"{one.address} answers ({one.users})")


def dial(address: str, users: str) -> Reached:
    """Look an address up and open a TCP connection to it."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError, UnicodeError) as error:
        return Reached(
            address, users, problem=error.strerror or str(error) if isinstance(error, OSError) else str(error)
        )
    try:
        with socket.create_connection((host, int(port)), timeout=_WITHIN):
            return Reached(address, users)
    except TimeoutError:
        return Reached(address, users, refusal=f"no answer within {_WITHIN:.0f} s")
    except OSError as error:
        return Reached(address, users, refusal=os.strerror(error.errno or errno.ECONNREFUSED).lower())


def _listens_beyond(home: Home) -> bool:
    """Whether this home's control plane is told to listen on more than this machine's own addresses."""
    listen = os.environ.get("MOSAIC_LISTEN", "")
    settings = home.root / "controlplane.yaml"
    if not listen and settings.exists():
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            found = YAML(typ="safe", pure=True).load(settings.read_text("utf-8"))
        except (YAMLError, UnicodeDecodeError):
            return False  # the control plane, whose file it is, says what is wrong with it
        listen = str(found.get("listen", "")) if isinstance(found, dict) else ""
    return listen != "" and not _is_loopback(listen)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
