"""`mosaic peer` as two admins type it, each at their own cluster."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mosaic_framework.paths import Home

from tests.mesh.test_renewal import command
from tests.support.mesh import Mesh
from tests.support.peers import write_peer


class Admin:
    """Somebody at one cluster."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self.home = Home(folder)
        self.home.root.mkdir()
        mesh.write_context(self.home)

    async def types(self, *words: str, stdin: str = "", code: int = 0, **environment: str) -> tuple[str, str]:
        """Run `mosaic WORDS`; returns what it wrote to stdout and stderr."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mosaic_cli.main", *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MOSAIC_HOME": str(self.home.root), **environment},
        )
        assert done.returncode == code, done
        return done.stdout, done.stderr

    async def reads(self, *words: str) -> Any:
        return json.loads((await self.types(*words, "-o", "json"))[0])


async def test_two_admins_pair_grant_watch_and_part_from_the_command_line(
    mesh: Mesh, west: Mesh, tmp_path: Path
) -> None:
    here, there = Admin(mesh, tmp_path / "here"), Admin(west, tmp_path / "there")
    token, said = await here.types("peer", "token", "west", "--role", "operator")
    assert "mosaic peer join" in said
    await here.types("peer", "join", token, code=2)  # an argument others on the machine could read
    file = tmp_path / "token.txt"
    file.write_text(token)
    await there.types("peer", "join", "--token-file", str(file), "--name", "hq", "--as", "east", code=4)
    _, said = await there.types("peer", "join", "--name", "hq", stdin=token)
    assert "paired with hq; there this cluster is west" in said

    watch = command(there.home.root, "peer", "ls", "-w", "-o", "json")
    try:
        assert watch.stdout is not None
        first = json.loads(await asyncio.to_thread(watch.stdout.readline))
        assert (first["name"], first["removed"]) == ("hq", False)
        await here.types("peer", "grant", "west", "see", "class=builder", "--with", "work", "--with", "detail")
        await here.types("peer", "grant", "west", "claim", "*", "--max", "2", "--for", "2h")
        await here.types("peer", "grant", "west", "fly", "*", code=2)
        shown = await here.reads("peer", "show", "west")
        assert [(one["kind"], one["fields"], one["max"]) for one in shown["grants"]] == [
            ("claim", [], 2),
            ("see", ["work", "detail"], None),
        ]
        words = {"_MOSAIC_COMPLETE": "complete_bash", "COMP_WORDS": "mosaic peer show w", "COMP_CWORD": "3"}
        assert "west" in (await here.types(**words))[0].split()
        await here.types("peer", "ungrant", "west", "--kind", "claim")
        await here.types("peer", "ungrant", "west", shown["grants"][1]["id"][:18])
        assert (await here.reads("peer", "show", "west"))["grants"] == []
        await here.types("peer", "role", "west", "viewer")
        assert (await here.reads("peer", "ls"))["items"][0]["role"] == "viewer"

        await here.types("peer", "rm", "west", "--yes", code=6)
        await here.types("peer", "revoke", "west", code=2)  # nobody agreed to it
        await here.types("peer", "revoke", "west", "--dry-run")
        assert (await here.reads("peer", "revoke", "west", "--dry-run"))["name"] == "west"
        assert (await here.reads("peer", "show", "west"))["health"] != "revoked"
        await here.types("peer", "revoke", "west", "--yes", "-m", "enough")
        lines: list[Any] = [first]
        while lines[-1]["health"] != "revoked":
            lines.append(json.loads(await asyncio.to_thread(watch.stdout.readline)))
        assert (lines[-1]["revokedBy"], lines[-1]["revokedReason"]) == ("peer", "enough")
        await there.types("peer", "rm", "hq", "--yes")
        while not lines[-1]["removed"]:
            lines.append(json.loads(await asyncio.to_thread(watch.stdout.readline)))
    finally:
        watch.terminate()
        watch.communicate()
    assert (await there.reads("peer", "ls"))["items"] == []
    _, said = await there.types("peer", "show", "hq", code=3)
    assert "no-such-peer" in said


async def test_a_mistyped_grant_or_token_gives_nothing_and_names_the_command_that_is_meant(
    mesh: Mesh, tmp_path: Path
) -> None:
    here = Admin(mesh, tmp_path / "here")
    await write_peer(mesh, "west")
    await here.types("peer", "grant", "west", "claim", "*", "--max", "0", code=2)
    for none in ("0s", "500ms"):
        await here.types("peer", "grant", "west", "see", "*", "--for", none, code=2)
    _, said = await here.types("peer", "join", stdin="half a token", code=4)
    assert "mosaic peer token NAME" in said
    assert "mosaic host token" not in said
    (peer,) = (await here.reads("peer", "ls"))["items"]
    assert peer["grants"] == []
    _, said = await here.types("peer", "grant", "west", "send", "*")
    assert "mosaic peer role west operator" in said, "a viewer's grant to send is of no use"
