"""The register's connections: a pool for queries, and connections of their own for LISTEN and advisory locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog
from mosaic_framework.errors import FleetError, InvalidInput, Unreachable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""What a register function takes: a connection of the pool or one of its own."""

OLDEST_SERVER = 15
CONNECT_SECONDS = 4.0  # a user must hear of a register that is down within 5 s
COMMAND_SECONDS = 10.0
CLOSE_SECONDS = 5.0

_SETTINGS = {
    "application_name": "mosaic-controlplane",
    "timezone": "UTC",
    # Every query of ours is short; compiling one costs more than running it (measured: 5.9 → 148 ms).
    "jit": "off",
    # An open snapshot stalls the change cursor for everybody.
    "idle_in_transaction_session_timeout": "30s",
    # The server drops a holder that fell silent, and with it its advisory locks, within 10 s.
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

# The server went away or refuses everybody, as against: this statement is wrong.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
# The statement is right, and may be repeated.
_BUSY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class RegisterUnreachable(Unreachable):
    """The register (PostgreSQL) cannot be reached."""

    code = "register-unreachable"
    hint = "mosaic doctor"


class RegisterBusy(RegisterUnreachable):
    """The register did not take this now."""

    code = "register-busy"
    hint = "try again"


class RegisterTooOld(FleetError):
    """The register's PostgreSQL is too old."""

    code = "register-too-old"


class Database:
    """One register. Make it with `connect`, end it with `close`; both may be called in any order and twice."""

    def __init__(self, url: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.url = url
        self.pool = pool

    @classmethod
    async def connect(
        cls, url: str, *, pool_size: int = 8, settings: Mapping[str, str] | None = None, reset: bool = True
    ) -> Database:
        """Open a pool of up to `pool_size` connections to `url` (direct or session-pooled), `settings` on top of ours.

        `reset`: whether a connection that comes back is reset, which is one more round trip; without, whoever borrows
        it must leave nothing behind.

        Raises RegisterUnreachable within 5 s, RegisterTooOld under PostgreSQL 15, InvalidInput on a malformed URL.
        """
        with _opening(url):
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=pool_size,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings={**_SETTINGS, **(settings or {})},
                reset=None if reset else _leave_as_it_is,
            )
        try:
            async with pool.acquire() as connection:
                check_server(connection)
        except BaseException:
            pool.terminate()
            raise
        return cls(url, pool)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a pooled connection without a transaction: each statement commits by itself."""
        with _opening(self.url):
            acquired = await self.pool.acquire(timeout=CONNECT_SECONDS)
        try:
            with _using(self.url, acquired):
                yield acquired
        finally:
            try:
                await self.pool.release(acquired)
            except (*_LOST, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
                # The work is done, or has failed with an error of its own; the pool has thrown the connection away.
                # The third is asyncpg's word for a server that has just said that it ends the connection.
                log.warning("register connection lost on release", error=str(error))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a pooled connection in a transaction that commits at the end, or rolls back on any exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def dedicated(self, **settings: str) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection outside of the pool, for LISTEN and advisory locks, which a pool would end on release.

        `settings` are server settings on top of ours. The caller closes it.
        """
        with _opening(self.url):
            return await asyncpg.connect(
                self.url,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings={**_SETTINGS, **settings},
            )

    @asynccontextmanager
    async def own(self, **settings: str) -> AsyncIterator[Connection]:
        """Lend a connection of its own, closed at the end; errors are told as those of `connection` are."""
        connection = await self.dedicated(**settings)
        try:
            with _using(self.url, connection):
                yield connection
        finally:
            connection.terminate()

    async def close(self) -> None:
        """Close the pool; a connection still lent after 5 s is cut."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()


async def _leave_as_it_is(_connection: object) -> None:
    """What asyncpg calls in place of its own reset."""


def check_server(connection: Connection) -> None:
    """Raise RegisterTooOld unless the server is PostgreSQL 15 or newer."""
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise RegisterTooOld(
            f"the register runs PostgreSQL {version.major}.{version.minor}",
            why=f"PostgreSQL {OLDEST_SERVER} or newer is needed",
            next_step="name a newer server in MOSAIC_DATABASE_URL, or unset it to use the embedded one",
        )


def shown(url: str) -> str:
    """Return `url` as it may be told to people: host, port and database; no user, password or option."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{host}{parts.path}" if parts.netloc else f"{host} {parts.path.lstrip('/')}".rstrip()


@contextmanager
def _opening(url: str) -> Iterator[None]:
    """Turn what stops a connection from being made into errors a user can act on."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.InterfaceError, *_LOST, *_REFUSED) as error:
        if isinstance(error, asyncpg.ClientConfigurationError):
            raise InvalidInput(
                "the register's URL is malformed", why=str(error), next_step="correct MOSAIC_DATABASE_URL"
            ) from error
        raise _unreachable(url, error) from error
    except ValueError as error:
        raise InvalidInput(
            "the register's URL is malformed", why=str(error), next_step="correct MOSAIC_DATABASE_URL"
        ) from error


@contextmanager
def _using(url: str, connection: Connection) -> Iterator[None]:
    """Turn the loss of a connection while it is in use, and a statement that came to nothing though it was right, into
    RegisterUnreachable. Other errors pass.
    """
    try:
        yield
    except _LOST as error:
        raise _unreachable(url, error) from error
    except _BUSY as error:
        raise RegisterBusy(f"the register at {shown(url)} did not take this", why=str(error).splitlines()[0]) from error
    except TimeoutError as error:  # asyncpg's word for a statement that went past command_timeout
        raise RegisterUnreachable(
            f"the register at {shown(url)} does not answer", why=f"a statement took over {COMMAND_SECONDS:g} s"
        ) from error
    except asyncpg.InterfaceError as error:
        # asyncpg has one class for its user's mistakes and for a connection that was cut under it.
        if _gone(connection):
            raise _unreachable(url, error) from error
        raise
    except (OSError, asyncpg.InternalClientError) as error:
        # The socket broke under a statement, before asyncpg had heard that the connection ended: it is of no use now.
        connection.terminate()
        raise _unreachable(url, error) from error


def _gone(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has already taken the dead connection back
        return True


def _unreachable(url: str, error: BaseException) -> RegisterUnreachable:
    why = str(error) or f"no connection within {CONNECT_SECONDS:g} s"
    return RegisterUnreachable(f"the register at {shown(url)} cannot be reached", why=why.splitlines()[0])
