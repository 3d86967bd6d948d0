"""A launch that has begun once begins again as a run of its own."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

from mosaic_framework.ids import new_id
from mosaic_hostagent import crashes
from mosaic_hostagent.backoff import Crashes
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.units import launch_file


def launch(run_id: str) -> dict[str, object]:
    return {
        "asked": "x",
        "agent_id": "agent-a",
        "run_id": run_id,
        "argv": ["claude", "--settings", f"/state/sessions/{run_id}/settings.json"],
        "env": {"MOSAIC_RUN": run_id, "MOSAIC_AGENT_TOKEN": "0" * 64, "OTHER": "kept"},
    }


def test_the_first_start_is_the_run_that_was_prepared(tmp_path: Path) -> None:
    prepared = launch(str(new_id()))
    tally = launch_file.read_tally(str(tmp_path), "a", prepared)
    assert launch_file.as_new_run(str(tmp_path), prepared, tally) == prepared


def test_a_second_start_has_its_own_id_token_and_files(tmp_path: Path) -> None:
    old = str(new_id())
    folder = tmp_path / "state" / "sessions" / old
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"hook": f"report --run {old}"}))
    (folder / "session.json").write_text(json.dumps({"agent_id": "agent-a", "token_sha256": "old"}))
    prepared = launch(old)
    tally = {**launch_file.read_tally(str(tmp_path), "a", prepared), "launched": old, "latest": old}
    made = launch_file.as_new_run(str(tmp_path), prepared, tally)
    new = made["run_id"]
    assert uuid.UUID(new).version == 7
    assert uuid.UUID(new).int >> 80 >= uuid.UUID(old).int >> 80  # milliseconds: it is not taken for an earlier run
    assert made["env"]["MOSAIC_RUN"] == new
    assert made["env"]["OTHER"] == "kept"
    assert made["argv"][2] == f"/state/sessions/{new}/settings.json"
    files = tmp_path / "state" / "sessions" / new
    assert json.loads((files / "settings.json").read_text()) == {"hook": f"report --run {new}"}
    token = made["env"]["MOSAIC_AGENT_TOKEN"]
    assert token != prepared["env"]["MOSAIC_AGENT_TOKEN"]  # type: ignore[index]
    kept = json.loads((files / "session.json").read_text())
    assert kept["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()


def test_a_second_start_listens_for_messages_where_the_host_agent_looks_for_it(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "state", host="here", socket=tmp_path / "agent.sock")
    session, token = sessions.begin(str(new_id()), agent_id="agent-a")
    old = session.run_id
    prepared = launch(old) | {"env": sessions.session_environment(session, token, agent="a")}
    tally = {**launch_file.read_tally(str(tmp_path), "a", prepared), "launched": old, "latest": old}
    made = launch_file.as_new_run(str(tmp_path), prepared, tally)
    sessions.take_up(made["run_id"])
    taken_up = sessions.of_token(made["env"]["MOSAIC_AGENT_TOKEN"])
    assert made["env"] == sessions.session_environment(taken_up, made["env"]["MOSAIC_AGENT_TOKEN"], agent="a")
    assert taken_up.letterbox != session.letterbox


def test_a_run_that_was_prepared_long_before_it_begins_has_an_id_that_tells_when_it_began(tmp_path: Path) -> None:
    (tmp_path / "state" / "seats").mkdir(parents=True)
    prepared = launch(str(new_id()))
    tally = launch_file.read_tally(str(tmp_path), "a", prepared)
    launch_file.write_tally(str(tmp_path), "a", {**tally, "begun": True, "launched": "an earlier one"})
    made = launch_file.as_new_run(str(tmp_path), prepared, launch_file.read_tally(str(tmp_path), "a", prepared))
    assert made["run_id"] != prepared["run_id"]
    # When the host-agent asks for a start, it waits for the run that it has prepared.
    asked = {**prepared, "asked": "y"}
    tally = launch_file.read_tally(str(tmp_path), "a", asked)
    assert launch_file.as_new_run(str(tmp_path), asked, tally)["run_id"] == prepared["run_id"]


def test_the_pause_is_kept_over_a_new_waiter_and_forgotten_when_a_start_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "state" / "seats").mkdir(parents=True)
    prepared = launch(str(new_id()))
    tally = launch_file.read_tally(str(tmp_path), "a", prepared)
    launch_file.write_tally(str(tmp_path), "a", {**tally, "count": 5, "next": launch_file.clock() + 16})
    again = launch_file.read_tally(str(tmp_path), "a", prepared)
    assert 15 < launch_file.pause(again) <= 16
    assert launch_file.read_tally(str(tmp_path), "a", {**prepared, "asked": "y"})["count"] == 0
    # What was written before the machine booted is no pause.
    assert launch_file.pause({"next": launch_file.clock() + 10_000}) == 0


def test_both_supervisions_count_crashes_by_one_rule() -> None:
    counted, count = Crashes(), 0
    for lasted in (0.1, 3, 59, 61, 0, 0, 0, 0, 0, 0, 0):
        counted, count = counted.after_run(lasted), crashes.count_after(count, lasted)
        assert (counted.count, counted.delay) == (count, crashes.delay(count))
    assert counted.looping
