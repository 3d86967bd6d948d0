"""Writing roster files: nothing of a person's is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.paths import Home
from mosaic_framework.roster_write import (
    RosterHandEdited,
    RosterMoved,
    plan_writing,
    roster_target,
    write_roster,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def written(home: Home, text: str, *, force: bool = False) -> Path | None:
    path = roster_target(home, None)
    return write_roster(home, plan_writing(home, path, text), force=force)


def test_the_first_roster_is_made_private_and_leaves_no_backup(home: Home) -> None:
    assert written(home, "one\n") is None
    path = home.fleet / "roster.yaml"
    assert path.read_text() == "one\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_again_changes_nothing(home: Home) -> None:
    written(home, "one\n")
    before = (home.fleet / "roster.yaml").stat()
    assert plan_writing(home, home.fleet / "roster.yaml", "one\n").kind == "unchanged"
    assert written(home, "one\n") is None
    assert (home.fleet / "roster.yaml").stat().st_ino == before.st_ino


def test_what_the_tool_wrote_may_be_replaced_and_is_kept_as_a_backup(home: Home) -> None:
    written(home, "one\n")
    backup = written(home, "two\n")
    assert backup is not None
    assert backup.read_text() == "one\n"
    assert (home.fleet / "roster.yaml").read_text() == "two\n"


def test_a_hand_edited_roster_is_replaced_by_force_alone_with_a_backup_each_time(home: Home) -> None:
    written(home, "one\n")
    path = home.fleet / "roster.yaml"
    path.write_text("one\n# mine\n")
    with pytest.raises(RosterHandEdited) as caught:
        written(home, "two\n")
    assert caught.value.exit_code == 6
    assert path.read_text() == "one\n# mine\n"
    first = written(home, "two\n", force=True)
    path.write_text("three\n")
    second = written(home, "four\n", force=True)
    assert first is not None
    assert second is not None
    assert (first.read_text(), second.read_text()) == ("one\n# mine\n", "three\n")


def test_without_a_memory_every_roster_counts_as_edited_by_hand(home: Home) -> None:
    written(home, "one\n")
    (home.state / "written.json").write_text("rubbish")
    with pytest.raises(RosterHandEdited):
        written(home, "two\n")


def test_a_roster_that_changed_between_look_and_write_is_left_alone(home: Home) -> None:
    path = home.fleet / "roster.yaml"
    planned = plan_writing(home, path, "two\n")
    path.parent.mkdir(parents=True)
    path.write_text("somebody was faster\n")
    with pytest.raises(RosterMoved):
        write_roster(home, planned)
    assert path.read_text() == "somebody was faster\n"


def test_the_mode_of_a_roster_and_of_its_folder_stay(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    path = folder / "roster.yaml"
    path.write_text("one\n")
    path.chmod(0o644)
    write_roster(home, plan_writing(home, path, "two\n"), force=True)
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o755, 0o644)


def test_a_link_to_a_roster_stays_a_link(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.yaml"
    kept.write_text("one\n")
    home.fleet.mkdir(parents=True)
    (home.fleet / "roster.yaml").symlink_to(kept)
    written(home, "two\n", force=True)
    assert (home.fleet / "roster.yaml").is_symlink()
    assert kept.read_text() == "two\n"


def test_a_roster_in_json_is_not_shadowed_by_a_new_one_in_yaml(home: Home) -> None:
    home.fleet.mkdir(parents=True)
    (home.fleet / "roster.json").write_text("{}")
    assert roster_target(home, None).name == "roster.json"


def test_the_difference_shows_what_goes_and_what_comes(home: Home) -> None:
    written(home, "one\nsame\n")
    planned = plan_writing(home, home.fleet / "roster.yaml", "two\nsame\n")
    assert [line for line in planned.diff()[2:] if line[0] in "+-"] == ["-one", "+two"]
