"""Joining a cluster: what a join token is, and how it becomes an identity on disk."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mosaic_proto.v1 import common_pb2, enrolment_pb2, enrolment_pb2_grpc

from mosaic_framework import pki, wire
from mosaic_framework.errors import (
    Denied,
    FleetError,
    NotLoggedIn,
    TokenExpired,
    TokenInvalid,
    TokenSpent,
    TooManyAttempts,
    Unreachable,
)
from mosaic_framework.identity_files import StoredIdentity, alone
from mosaic_framework.names import check_name
from mosaic_framework.paths import private_folder, write_private
from mosaic_framework.renewal import renew_at

PREFIX = "mosaic1"
TOKEN_LIMIT = 16 * 1024
JOIN_PATIENCE = 60.0  # seconds that a joiner waits, over all attempts, while too many join at once
DOOR_PATIENCE = 20.0  # the same while connections are closed unheard: four times what a silent one may stand
_DOOR_PAUSE = (0.1, 0.5)  # seconds between two knocks
_CLOSED = ("socket closed", "connection reset", "broken pipe")  # gRPC's words for a connection that was closed on us
KINDS = {"host": common_pb2.PRINCIPAL_KIND_HOST, "operator": common_pb2.PRINCIPAL_KIND_OPERATOR}
PEER = "peer"
"""The kind of a token that pairs two clusters: whoever joins with it keeps its own certificate authority."""


class FalseIdentity(Denied):
    """The server answered with a certificate that is not what the token promised."""

    code = "false-identity"
    hint = "do not use this server; ask whoever gave you the token"


class TurnedAway(Unreachable):
    """The connection was taken and closed before a word was said."""

    code = "turned-away"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A one-time token: who its holder becomes, where to go, and which authority to trust there.

    `kind` is one of KINDS, or PEER, where `name` is what the joining cluster will be called.

    `addresses` are host:port of enrolment listeners. The server reads only the secret; the rest is public.
    """

    kind: str
    tenant: str
    name: str
    trust_domain: str
    addresses: list[str]
    authority_der: bytes
    secret: str = field(repr=False)
    further_der: list[bytes] = field(default_factory=list)
    """other roots of the cluster, while it changes from one to another: the server may show a certificate by any"""
    cluster: str = ""
    """what the cluster that made it calls itself; empty: it does not say"""

    def format(self) -> str:
        """Return the token as one word: mosaic1.<base64url of JSON>.<secret>."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "tenant": self.tenant,
            "name": self.name,
            "trust_domain": self.trust_domain,
            "addresses": self.addresses,
            "authority": base64.b64encode(self.authority_der).decode(),
        }
        if self.further_der:
            content["further"] = [base64.b64encode(der).decode() for der in self.further_der]
        if self.cluster:
            content["cluster"] = self.cluster
        packed = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=")
        return f"{PREFIX}.{packed.decode()}.{self.secret}"

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Return the token that `text` spells; white space does not matter. Raises TokenInvalid on anything else."""
        text = "".join(text.split())  # terminals wrap long words
        if not text.startswith(f"{PREFIX}.") or len(text) > TOKEN_LIMIT:
            raise _unreadable("it does not start with 'mosaic1.'" if len(text) <= TOKEN_LIMIT else "it is too long")
        _, _, rest = text.partition(".")
        packed, _, secret = rest.partition(".")
        try:
            content = json.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True))
            token = cls._from_json(content, secret)
            for der in token.roots_der:
                x509.load_der_x509_certificate(der)
            token.check_names()
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, FleetError) as error:
            raise _unreadable("a part of it is missing or changed") from error
        return token

    @classmethod
    def _from_json(cls, content: dict[str, Any], secret: str) -> JoinToken:
        addresses = content["addresses"]
        if (
            not isinstance(addresses, list)
            or not addresses
            or not all(isinstance(address, str) and address for address in addresses)
        ):
            raise ValueError("addresses")
        if not secret or content["kind"] not in (*KINDS, PEER):
            raise ValueError("kind or secret")
        return cls(
            kind=content["kind"],
            tenant=content["tenant"],
            name=content["name"],
            trust_domain=content["trust_domain"],
            addresses=list(addresses),
            authority_der=base64.b64decode(content["authority"], validate=True),
            secret=secret,
            further_der=[base64.b64decode(text, validate=True) for text in content.get("further", [])],
            cluster=content.get("cluster", ""),
        )

    @property
    def roots_der(self) -> list[bytes]:
        """Return every root by which the server's certificate may be."""
        return [self.authority_der, *self.further_der]

    def check_names(self) -> None:
        """Raise InvalidInput unless tenant, name and trust domain can be what they say."""
        if self.kind == PEER:
            check_name(self.name, what="cluster")
            check_name(self.tenant, what="tenant")
            check_name(self.cluster, what="cluster")
            pki.check_trust_domain(self.trust_domain)
        else:
            self.spiffe_id()

    def spiffe_id(self) -> pki.SpiffeId:
        """Return who the holder becomes."""
        return pki.SpiffeId(self.trust_domain, self.kind, self.name, tenant=self.tenant)


def enrol(
    token: JoinToken,
    folder: Path,
    *,
    name: str | None = None,
    timeout: float = 10.0,
    patience: float = DOOR_PATIENCE,
    tell: Callable[[str], None] = lambda _line: None,
) -> StoredIdentity:
    """Turn a token into an identity saved in `folder`, replacing the one there. The private key never leaves it.

    `name` is what the joiner believes to be called (default: the token's). When the reply is lost, or what comes after
    it is cut off, the same call again gets the same certificate: the key waits in `folder`, and then is the identity's.
    `timeout` is in seconds, over all addresses. Who is turned away, as others take up the listener, tries again for
    `patience` seconds; `tell` hears why.
    Raises TokenInvalid, TokenSpent, TokenExpired, TokenWrongName, TooManyAttempts, Unreachable, OutOfTime, TurnedAway
    or FalseIdentity.
    """
    private_folder(folder)
    with alone(folder):
        pending = folder / f"pending-{hashlib.sha256(token.secret.encode()).hexdigest()[:16]}.pem"
        waited = pending.exists()
        if waited:
            key = pki.key_from_pem(pending.read_bytes())
        else:
            key = pki.new_key()
            write_private(pending, pki.key_to_pem(key))
        try:
            key, reply = _ask_with(
                key,
                folder,
                lambda request: _ask_patiently(
                    lambda: _ask(token, name or token.name, request, timeout), patience=patience, tell=tell
                ),
            )
        except Denied as refused:
            # Nothing was issued for a key that was made just now, when the server itself refused it; nor ever will be
            # for any by a token that is spent or over. What else went wrong may have been after a lost reply.
            by_server = isinstance(refused.__cause__, grpc.RpcError)
            if isinstance(refused, (TokenSpent, TokenExpired)) or (by_server and not waited):
                pending.unlink()
            raise
        identity = _checked(token, key, reply)
        identity.save(folder)
        for left_over in folder.glob("pending-*.pem"):
            left_over.unlink()
    return identity


def _ask_with(
    key: ec.EllipticCurvePrivateKey, folder: Path, ask: Callable[[bytes], enrolment_pb2.EnrolReply]
) -> tuple[ec.EllipticCurvePrivateKey, enrolment_pb2.EnrolReply]:
    """Ask for a certificate for `key`; for the key in `folder` when the token is spent, which may have been by that."""
    try:
        return key, ask(pki.signing_request(key))
    except TokenSpent:
        try:
            ours = pki.key_from_pem(StoredIdentity.load(folder).key_pem)
            return ours, ask(pki.signing_request(ours))
        except (FleetError, ValueError):
            pass  # there is none, or it is spent for that too: told is what was said of the key asked for first
        raise


def _ask_patiently(
    ask: Callable[[], enrolment_pb2.EnrolReply], *, patience: float, tell: Callable[[str], None]
) -> enrolment_pb2.EnrolReply:
    """Ask, and ask again when too many join at once: a fleet that is set up behind one address gets in one by one."""
    left = JOIN_PATIENCE
    until = time.monotonic() + patience
    told = False
    while True:
        try:
            return ask()
        except TooManyAttempts as busy:
            seconds = (busy.retry_after or 1.0) * random.uniform(1, 3)  # noqa: S311 - so that not all come again at once
            left -= seconds
            if left < 0:
                raise
            what = busy.what
        except TurnedAway as closed:
            seconds = random.uniform(*_DOOR_PAUSE)  # noqa: S311 - nobody says when there is room, so all knock
            if time.monotonic() + seconds >= until:
                raise
            what = closed.what
        if not told:
            tell(f"{what}; trying again")
            told = True
        time.sleep(seconds)


def _ask(token: JoinToken, name: str, request_der: bytes, timeout: float) -> enrolment_pb2.EnrolReply:
    """Try the token's addresses in turn until one answers. A refusal is an answer. Raises TurnedAway, too."""
    request = enrolment_pb2.EnrolRequest(
        secret=token.secret, kind=KINDS[token.kind], name=name, signing_request_der=request_der
    )
    roots = b"".join(pki.certificate_to_pem(x509.load_der_x509_certificate(der)) for der in token.roots_der)
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    deadline = time.monotonic() + timeout
    failure: FleetError = Unreachable("the control plane cannot be reached")
    turned_away: list[str] = []
    for position, address in enumerate(token.addresses):
        share = (deadline - time.monotonic()) / (len(token.addresses) - position)
        with grpc.secure_channel(address, credentials, options=wire.client_options()) as channel:
            try:
                return enrolment_pb2_grpc.EnrolmentServiceStub(channel).Enrol(request, timeout=max(share, 0.1))
            except grpc.RpcError as error:
                failure = wire.error_from_rpc(error)
                if not isinstance(failure, (Unreachable, NotLoggedIn)):
                    raise failure from error
                if type(failure) is Unreachable and any(word in failure.why.lower() for word in _CLOSED):
                    turned_away.append(address)
    if turned_away:
        raise TurnedAway(
            f"{', '.join(turned_away)} closes the connection at once",
            why="as many connections stand there as it takes, or nobody is behind what forwards it",
            next_step="check that the control plane runs (mosaic status, there), then run this again",
        ) from failure
    if isinstance(failure, NotLoggedIn):
        raise TokenInvalid(
            f"the server at {', '.join(token.addresses)} is not of the cluster that made this token",
            why="its certificate was not issued by the authority in the token",
            next_step="make a new token on that cluster with: mosaic host token NAME",
        ) from failure
    if isinstance(failure, wire.OutOfTime):  # its own words: it is there, and one of two clocks is wrong
        raise wire.OutOfTime(
            failure.what, why=failure.why, next_step="set the clock that is wrong, then run this again"
        ) from failure
    raise Unreachable(
        f"no control plane answers at {', '.join(token.addresses)}",
        why=failure.why,
        next_step="check that it runs (mosaic status, there) and that this machine can reach it, then run this again",
    ) from failure


def _checked(token: JoinToken, key: ec.EllipticCurvePrivateKey, reply: enrolment_pb2.EnrolReply) -> StoredIdentity:
    """Return the reply as an identity, if it is what the token promised: our key, our name, that authority."""
    try:
        certificate = x509.load_der_x509_certificate(reply.certificate_der)
        bundle = [x509.load_der_x509_certificate(der) for der in reply.authority_der]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        promised_roots = [x509.load_der_x509_certificate(der) for der in token.roots_der]
    except Exception as error:  # whatever is wrong with it, it is not what was promised
        raise FalseIdentity(why="the certificate cannot be checked") from error
    promised = str(token.spiffe_id())
    if pki.issuer_among(certificate, bundle) is None:
        raise FalseIdentity(why="no root that came with it issued it")
    if not any(root in bundle for root in promised_roots):
        raise FalseIdentity(why="the token's authority does not stand behind it")
    if certificate.public_key() != key.public_key():
        raise FalseIdentity(why="it is for another key")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [promised] or reply.spiffe_id != promised:
        raise FalseIdentity(why=f"it is not for {promised}")
    return StoredIdentity(
        kind=token.kind,
        name=token.name,
        tenant=token.tenant,
        identity_id=reply.identity_id,
        identity_epoch=reply.identity_epoch,
        spiffe_id=promised,
        trust_domain=token.trust_domain,
        cluster=reply.cluster,
        fleet_addresses=list(reply.fleet_addresses),
        not_after=certificate.not_valid_after_utc.astimezone(UTC),
        key_pem=pki.key_to_pem(key),
        certificate_pem=pki.certificate_to_pem(certificate),
        bundle_pem=b"".join(pki.certificate_to_pem(root) for root in bundle),
        renew_at=renew_at(certificate),
    )


def _unreadable(why: str) -> TokenInvalid:
    return TokenInvalid(
        "this is not a join token",
        why=why,
        next_step="copy the whole token, or make a new one where it came from",
    )
