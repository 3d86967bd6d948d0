"""An agent that was reset goes on as itself: one process, another run; its token, its mail and its cards follow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.runtimes import read_manifest

from tests.support.checkout import ROOT
from tests.support.mesh import Mesh
from tests.support.pane import inside, mosaic, persons

PROGRAM = ROOT / "tests" / "fakes" / "clearing.py"


async def test_after_a_reset_a_message_arrives_and_cards_are_claimed_from_the_same_pane(
    mesh: Mesh, tmp_path: Path
) -> None:
    claude = read_manifest(Catalog(shipped_data()), "claude")
    fresh = claude.reset.model_validate({"clear": "/clear", "keeps_seed": True, "fresh": [{"pattern": "nothing said"}]})
    transcript = tmp_path / "transcript"
    await mesh.join("alpha")
    await mesh.apply(
        {"coder": "alpha"},
        runtime="claude",
        classes={"coder": "code"},
        command={"coder": [sys.executable, str(PROGRAM), str(transcript)]},
        manifest=claude.model_copy(update={"reset": fresh}),
    )
    await mesh.until_available("coder")
    anna, pane = persons(mesh, tmp_path / "anna"), await inside(mesh, "coder")
    before = (await mesh.agents())["coder"]
    mosaic(anna, "backlog", "create", "the schema", "--id", "schema")
    assert mosaic(pane, "backlog", "claim", "-o", "json").json["card"]["holder"]["runId"] == before.run_id

    reset = mosaic(anna, "agent", "reset", "coder", "--timeout", "40s")
    assert reset.code == 0, reset
    after = (await mesh.agents())["coder"]
    assert (after.pid, after.run_id > before.run_id) == (before.pid, True)

    sent = mosaic(anna, "agent", "send", "coder", "-m", "hello again", "--timeout", "40s")
    assert sent.code == 0, sent
    entered = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert entered[0] == "/clear"
    assert sum("hello again" in text for text in entered) == 1

    assert mosaic(pane, "agent", "ls", "-o", "name").out.strip() == "alpha/coder"
    # The run that had claimed is over, so that the card is free again: the new run takes it.
    again = mosaic(pane, "backlog", "claim", "--wait", "30s", "-o", "json")
    assert (again.json["card"]["id"], again.json["card"]["holder"]["runId"]) == ("schema", after.run_id), again
    done = mosaic(pane, "backlog", "complete", "-o", "json")
    assert (done.code, done.json["status"]) == (0, "done"), done
