"""The way to the control plane, and what only it can tell: its clock, its version, the hosts', the register's."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509
from mosaic_framework import __version__
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

from mosaic_cli import context as contexts
from mosaic_cli.client import Connection, connect
from mosaic_cli.context import Context
from mosaic_cli.doctor import clock, peers, versions
from mosaic_cli.doctor.finding import NOTE, UNCHECKED, WELL, WRONG, Finding
from mosaic_cli.machine.local import host_identity
from mosaic_cli.text import age

_STALL_MS = 5_000
_SHOWN_WITHIN = 2.0
_THIS = "mosaic doctor"
_ONLY_THERE = ("clock", "versions")
_QUERY = "select pid, xact_start, query from pg_stat_activity where backend_xid is not null order by xact_start"


def check(home: Home, context_name: str) -> Iterator[Finding]:
    """Ask the control plane: as an operator, or, where there is no context, as this machine's host."""
    known = bool(contexts.load(home).items or context_name)
    if not known and host_identity(home) is None:
        yield Finding("cluster", NOTE, "no cluster is set up for this user", "mosaic up, or: mosaic login")
        yield from _unchecked("there is no control plane to compare with")
        return
    try:
        with connect(context_name, home=home) if known else _as_host(home) as connection:
            before = time.time()
            reply = connection.call(connection.fleet.GetCluster, pb.GetClusterRequest())
            after = time.time()
            hosts = _hosts(connection) if known else {}
            others = list(_peers(connection)) if known else []
    except FleetError as error:
        text = f"{error.what}{f': {error.why}' if error.why else ''}"
        by_certificate = list(_clock_by_certificate(home, context_name))
        repair = error.next_step if error.next_step != _THIS else "what is told of names, addresses and certificates"
        yield Finding("cluster", WRONG, text, by_certificate[0].repair if by_certificate else repair)
        yield from by_certificate
        yield from _unchecked("the control plane could not be asked", _ONLY_THERE[len(by_certificate) :])
        return
    took = (after - before) * 1000
    yield Finding("cluster", WELL, f"{connection.context.name} answers in {took:.0f} ms as {reply.caller.name}")
    if reply.cursor_stall_ms >= _STALL_MS:
        text = f"an open transaction has held `fleet watch` back for {age(reply.cursor_stall_ms / 1000)}"
        yield Finding("watchers", WRONG, text, f"find it on the database's server: {_QUERY}")
    yield from others
    database = reply.at.ToNanoseconds() / 1e9
    replica = reply.replica_at.ToNanoseconds() / 1e9 or database  # an older control plane does not tell its own
    yield from clock.judge(clock.Readings(before, after, replica, database), clock.set_clock())
    yield from versions.judge(
        versions.Versions(
            here=__version__,
            answering=reply.version,
            replicas=tuple(reply.replica_versions),
            hosts=hosts,
            register=reply.register_version,
            known=reply.known_register_version,
        )
    )


def _clock_by_certificate(home: Home, context_name: str) -> Iterable[Finding]:
    """Judge the clock by what a control plane shows to whomever connects. It is not proven to be ours: a hint only."""
    addresses: Sequence[str] = ()
    with contextlib.suppress(FleetError):
        identity = host_identity(home)
        known = contexts.load(home)
        addresses = (
            known.chosen(context_name).addresses if known.items else identity.fleet_addresses if identity else ()
        )
    for address in addresses:
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            shown = ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=_SHOWN_WITHIN)
            leaf = x509.load_pem_x509_certificate(shown.encode())
            begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            return clock.judge_by_certificate(begins, ends, datetime.now(UTC), clock.set_clock())
    return ()


def _unchecked(why: str, names: Iterable[str] = _ONLY_THERE) -> Iterator[Finding]:
    for name in names:
        yield Finding(name, UNCHECKED, f"not looked at: {why}")


def _hosts(connection: Connection) -> dict[str, str]:
    reply = connection.call(connection.hosts.List, pb.ListHostsRequest(tenant=connection.tenant))
    # What a silent host ran is nothing that runs.
    return {host.name: host.version for host in reply.hosts if host.state == pb.HOST_STATE_LIVE}


def _peers(connection: Connection) -> Iterator[Finding]:
    try:
        reply = connection.call(connection.peers.List, peers_pb2.ListPeersRequest(tenant=connection.tenant))
    except FleetError as error:  # as by an older control plane
        yield Finding("peers", UNCHECKED, f"not looked at: {error.what}")
        return
    yield from peers.judge(reply.peers, reply.at)


@contextmanager
def _as_host(home: Home) -> Iterator[Connection]:
    identity = host_identity(home)
    assert identity is not None
    connection = Connection(Context("host", tuple(identity.fleet_addresses), "pki/host"), identity)
    try:
        yield connection
    finally:
        connection.close()
