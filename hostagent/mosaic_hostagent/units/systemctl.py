"""`systemctl --user`, by argument vector, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from mosaic_framework.errors import FleetError

_AT_ONCE = 8
_SECONDS = 400.0
"""Longer than a stop may take: see TimeoutStopSec in the units."""


class SystemdRefused(FleetError):
    """systemd did not do what was asked."""

    code = "systemd-refused"


class Systemctl:
    """The user's systemd. `environment` leads there: HOME and XDG_RUNTIME_DIR."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self, *arguments: str) -> str:
        """Run one command to its end and return what it prints. Raises SystemdRefused."""
        async with self._at_once:
            try:
                process = await asyncio.create_subprocess_exec(
                    "systemctl",
                    "--user",
                    "--no-ask-password",
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=self._environment,
                )
            except OSError as error:
                raise SystemdRefused("systemctl cannot be run", why=str(error.strerror)) from error
            try:
                async with asyncio.timeout(_SECONDS):
                    out, err = await process.communicate()
            except TimeoutError:
                raise SystemdRefused(
                    f"systemd did not finish `{arguments[0]}`",
                    why=f"it took over {_SECONDS:.0f} s",
                    next_step="systemctl --user list-jobs",
                ) from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            said = " ".join(err.decode("utf-8", "replace").split())
            raise SystemdRefused(
                f"systemd did not {arguments[0]} {arguments[-1]}",
                why=said[:300] or f"exit status {process.returncode}",
                next_step=f"journalctl --user -n 20 -u '{arguments[-1]}'",
            )
        return out.decode("utf-8", "replace")

    async def show(self, units: Sequence[str], *properties: str) -> dict[str, dict[str, str]]:
        """Return properties of units: unit → property → value. Raises SystemdRefused."""
        if not units:
            return {}
        wanted = ("Id", *properties)
        text = await self.run("show", *(f"--property={name}" for name in wanted), "--", *units)
        found = {}
        for block in text.strip().split("\n\n"):
            row = dict(line.partition("=")[::2] for line in block.splitlines())
            found[row.get("Id", "")] = row
        return found
