"""What the events of a run's hooks add up to: late, repeated and out of order as they may come."""

from __future__ import annotations

import functools
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest, Meaning
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.heartbeats import HeartbeatFile, parse
from mosaic_hostagent.reports import BadReport
from mosaic_hostagent.reports import parse as parse_report
from mosaic_hostagent.signal_setup import filled, reporter_command, signal_setup, toml_hooks, with_settings
from mosaic_hostagent.signals import Report, Signal, Told, answer_of, fold, fold_report, understand
from pydantic import JsonValue


@functools.cache
def manifest(name: str) -> Manifest:
    return read_manifest(Catalog(Catalog.open().shipped), name)


def after(*said: tuple[str, float], of: str = "claude", **payload: Any) -> Told:
    """Fold events of a runtime: (event, when)."""
    told = Told()
    for event, at in said:
        told = fold(told, understand(Report(event, event, at, payload), manifest(of), at=at))
    return told


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        ([("SessionStart", 1)], ""),
        ([("SessionStart", 1), ("UserPromptSubmit", 2)], "working"),
        ([("UserPromptSubmit", 2), ("PermissionRequest", 3)], "waiting"),
        ([("UserPromptSubmit", 2), ("PermissionRequest", 3), ("PostToolUse", 4)], "working"),
        ([("UserPromptSubmit", 2), ("Stop", 3)], "available"),
        ([("UserPromptSubmit", 2), ("StopFailure", 3)], "failed"),
        ([("StopFailure", 3), ("UserPromptSubmit", 4)], "working"),
        ([("UserPromptSubmit", 2), ("Stop", 3), ("PostToolUse", 4)], "available"),
        # out of order: what happened before counts for nothing that came after it
        ([("UserPromptSubmit", 2), ("Stop", 5), ("PermissionRequest", 4)], "available"),
        ([("Stop", 5), ("UserPromptSubmit", 4)], "available"),
        ([("UserPromptSubmit", 2), ("UserPromptSubmit", 2), ("Stop", 3), ("Stop", 3)], "available"),
        ([("SomethingNew", 2)], ""),
    ],
)
def test_events_of_claude_add_up_to_a_phase(said: list[tuple[str, float]], phase: str) -> None:
    assert after(*said).phase == phase


def test_a_turn_that_the_model_broke_off_is_told_from_one_that_a_person_ended() -> None:
    assert after(("agent_end", 2), of="pi", stop="error", error="400").phase == "failed"
    assert after(("agent_end", 2), of="pi", stop="aborted").phase == "available"
    assert after(("idle", 2), of="opencode", stop="error").phase == "failed"
    assert after(("Interrupt", 2), of="codex").phase == "available"


def test_a_compaction_amid_a_turn_does_not_end_it_and_a_new_session_does() -> None:
    working = after(("SessionStart", 1), ("UserPromptSubmit", 2), session_id="s1")
    again = Report("x", "SessionStart", 3, {"session_id": "s1", "source": "compact"})
    assert fold(working, understand(again, manifest("claude"), at=3)).phase == "working"
    cleared = Report("x", "SessionStart", 3, {"session_id": "s2", "source": "clear"})
    told = fold(working, understand(cleared, manifest("claude"), at=3))
    assert (told.phase, told.session) == ("", "s2")


def test_the_newest_model_is_known() -> None:
    told = after(("SessionStart", 1), model="claude-sonnet-5-5")
    switched = Report("x", "PostModelSwitch", 3, {"to_model": "claude-opus-5-5"})
    assert fold(told, understand(switched, manifest("claude"), at=3)).model == "claude-opus-5-5"


def test_what_an_agent_says_of_itself_holds_until_its_next_turn() -> None:
    told = fold_report(after(("UserPromptSubmit", 1)), "stuck", at=2, detail="no key")
    assert (told.phase, told.reported, told.detail) == ("stuck", True, "no key")
    told = fold(told, Signal("Stop", Meaning.TURN_ENDED, 3))
    assert told.phase == "stuck"
    told = fold(told, Signal("UserPromptSubmit", Meaning.PROMPT_ACCEPTED, 4))
    assert (told.phase, told.reported) == ("working", False)


EVENTS = st.lists(st.tuples(st.sampled_from([*manifest("claude").signals.events, "?"]), st.integers(0, 20)), max_size=8)


@given(EVENTS)
def test_an_older_event_never_changes_the_phase(said: list[tuple[str, int]]) -> None:
    told = after(*((event, float(at)) for event, at in said))
    for event in manifest("claude").signals.events:
        older = understand(Report("x", event, told.since - 1, {}), manifest("claude"), at=told.since - 1)
        assert fold(told, older).phase == told.phase


@given(EVENTS)
def test_a_repeated_event_changes_nothing_but_the_count(said: list[tuple[str, int]]) -> None:
    once = [(event, float(at)) for event, at in sorted(said, key=lambda one: one[1])]
    twice = [one for one in once for _ in range(2)]
    assert (after(*once).phase, after(*once).since) == (after(*twice).phase, after(*twice).since)


@pytest.mark.parametrize("name", ["claude", "codex", "pi", "opencode"])
def test_every_runtime_tells_of_prompts_turns_and_its_session(name: str) -> None:
    meanings = {event.means for event in manifest(name).signals.events.values()}
    assert {Meaning.PROMPT_ACCEPTED, Meaning.TURN_ENDED} <= meanings
    assert any(event.prompt for event in manifest(name).signals.events.values())
    assert any(event.session for event in manifest(name).signals.events.values())


def test_a_text_that_is_handed_over_goes_in_as_data() -> None:
    text = 'a "b" \\ {text_json}\n😀'
    found = json.loads(answer_of(manifest("claude").signals.events["Stop"], text))
    assert found == {"decision": "block", "reason": text}


def test_claudes_settings_get_a_reporter_for_each_event_of_the_manifest(tmp_path: Path) -> None:
    setup = signal_setup(manifest("claude"), state_folder=tmp_path)
    own: dict[str, JsonValue] = {"claude-settings.json": {"autoCompactEnabled": True}, "other.json": 1}
    files = with_settings(own, setup)
    settings = files["claude-settings.json"]
    assert isinstance(settings, dict)
    assert settings["autoCompactEnabled"] is True
    assert files["other.json"] == 1
    hooks: Any = settings["hooks"]
    assert set(hooks) == set(manifest("claude").signals.events)
    for event, groups in hooks.items():
        words = shlex.split(groups[0]["hooks"][0]["command"].partition(" 2>")[0])
        assert words[1:3] == ["-I", "-S"]
        assert Path(words[3]).name == "reporter.py"
        assert words[4] == event


def test_codex_is_given_hooks_that_trust_exactly_themselves() -> None:
    args = toml_hooks(manifest("codex").signals.toml_hooks)
    given = {}
    for flag, text in zip(args[::2], args[1::2], strict=True):
        assert flag == "-c"
        key, _, value = text.partition("=")
        given[key] = tomllib.loads(f"x = {value}")["x"]
    events = manifest("codex").signals.toml_hooks
    assert {key for key in given if key != "hooks.state"} == {f"hooks.{event}" for event in events}
    assert len(given["hooks.state"]) == len(events)
    assert "/<session-flags>/config.toml:user_prompt_submit:0:0" in given["hooks.state"]


def test_codexs_hash_of_a_hook_is_the_one_that_codex_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded from codex 0.169.0, which wrote it into its settings when a person trusted this hook.
    monkeypatch.setattr("mosaic_hostagent.signal_setup.reporter_command", lambda: "mosaic-report __EVENT__")
    (state,) = (one for one in toml_hooks({"Stop": 600}) if one.startswith("hooks.state"))
    assert "sha256:badf4b4c1fdcc7075e762dcb01d1d8b29e3b56591513ec77f9dda2af23b7cbe2" in state


def test_files_of_a_runtime_are_written_once_and_stay_private(tmp_path: Path) -> None:
    args = signal_setup(manifest("pi"), state_folder=tmp_path).args
    assert Path(args[1]).stat().st_mode & 0o777 == 0o600
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "signals").rglob("*")}
    assert signal_setup(manifest("pi"), state_folder=tmp_path).args == args
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "signals").rglob("*")} == before
    env = signal_setup(manifest("opencode"), state_folder=tmp_path).env
    assert (Path(env["OPENCODE_CONFIG_DIR"]) / "plugin" / "mosaic.js").is_file()


def test_a_line_without_a_mark_stays_as_it_is() -> None:
    assert filled('{"a": "b"}\n') == '{"a": "b"}\n'
    assert json.loads(filled('{"a": "__REPORT__ Stop"}'))["a"] == reporter_command().replace("__EVENT__", "Stop")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"token": 1, "event": "e", "id": "i", "at_ns": 1}',
        b'{"token": "t", "event": "e", "id": "i", "at_ns": "1"}',
        b'{"token": "t", "event": "e", "id": "i", "at_ns": true}',
    ],
)
def test_what_is_no_report_is_refused(head: bytes) -> None:
    with pytest.raises(BadReport):
        parse_report(head, b"{}")


@pytest.mark.parametrize("payload", [b"", b"nonsense", b"[1]", b"\xff", b"[" * 100_000])
def test_an_event_with_a_payload_that_is_no_object_still_counts(payload: bytes) -> None:
    _, report = parse_report(b'{"token": "t", "event": "Stop", "id": "i", "at_ns": 1}', payload)
    assert (report.event, report.payload) == ("Stop", {})


@pytest.mark.parametrize(
    ("text", "state", "fresh"),
    [
        ("ts=1000\npid=1\nstatus=busy\n", "working", True),
        ("ts=956\nstatus=idle", "available", True),
        ("ts=954\nstatus=idle", "available", False),
        ("ts=900\nstatus=idle\ninterval=60", "available", True),
        ("ts=99999\nstatus=working", "working", True),
        ("ts=1000\nstatus=dreaming", "", True),
        ("ts=1000.5", "", True),
    ],
)
def test_a_heartbeat_is_healthy_for_three_intervals(text: str, state: str, fresh: bool) -> None:
    found = parse(text, wall=1000.0, monotonic=50.0)
    assert found is not None
    assert (found.state, found.is_fresh(50.0)) == (state, fresh)


def test_a_heartbeat_from_the_future_does_not_outlive_its_program() -> None:
    found = parse("ts=99999", wall=1000.0, monotonic=50.0)
    assert found is not None
    assert not found.is_fresh(50.0 + 46)


@pytest.mark.parametrize(
    "text", ["", "ts=", "ts=soon", "status=busy", "ts=nan", "ts=1\npid=x", "ts=1\ninterval=0", "\0"]
)
def test_rubbish_is_no_heartbeat(text: str) -> None:
    assert parse(text, wall=1000.0, monotonic=50.0) is None


def test_a_heartbeat_file_may_be_anything(tmp_path: Path) -> None:
    import os

    assert HeartbeatFile(tmp_path / "none").read() is None
    assert HeartbeatFile(tmp_path).read() is None
    os.mkfifo(tmp_path / "pipe")
    assert HeartbeatFile(tmp_path / "pipe").read() is None
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert HeartbeatFile(tmp_path / "link").read() is None
    (tmp_path / "big").write_bytes(b"ts=1\n" + b"x" * 10_000_000)
    assert HeartbeatFile(tmp_path / "big").read() is not None
