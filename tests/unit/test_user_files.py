"""A user's own file: what is merged into it is told apart from the user's own, backed up, and taken back."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.launch import Circumstances
from mosaic_framework.manifest import Setting, UserFile
from mosaic_framework.paths import Home
from mosaic_framework.runtimes import read_manifest
from mosaic_framework.user_files import UserFileUnusable, settle, undo_all

WHAT = UserFile(
    file=".tool.json",
    lock=".lock",
    settings=[
        Setting(keys=["onboarded"], value=True),
        Setting(keys=["projects", "{folder}", "trusted"], value=True, at_home=False),
    ],
)
FOLDER = '/w "q" {session}/$(id).ü'
PLACE = Circumstances(folder=Path(FOLDER), session=Path("/s"))


class User:
    """A user with a home, and what is settled there."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "mosaic")
        self.file = folder / ".tool.json"
        self.around = {"HOME": str(folder)}

    def settle(self, place: Circumstances = PLACE) -> bool:
        return settle(self.home, WHAT, place, self.around)

    def read(self) -> Any:
        return json.loads(self.file.read_text())

    def write(self, content: Any) -> None:
        self.file.write_text(json.dumps(content))


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def test_values_are_merged_for_the_seats_folder_alone_and_the_rest_stays(user: User) -> None:
    user.write({"theme": "dark", "projects": {"/other": {"trusted": False}}})
    assert user.settle()
    assert user.read() == {
        "theme": "dark",
        "projects": {"/other": {"trusted": False}, FOLDER: {"trusted": True}},
        "onboarded": True,
    }
    assert not user.settle()


def test_in_the_home_itself_nothing_is_trusted(user: User) -> None:
    user.settle(Circumstances(folder=Path(FOLDER), session=Path("/s"), at_home=True))
    assert user.read() == {"onboarded": True}


def test_the_file_as_it_was_is_kept_privately(user: User) -> None:
    user.file.write_bytes(b'{ "theme":   "dark" }')
    user.settle()
    (backup,) = (user.home.state / "user-files").iterdir()
    assert backup.read_bytes() == b'{ "theme":   "dark" }'
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_undone_it_is_what_it_was_but_for_what_the_user_changed_since(user: User) -> None:
    user.write({"onboarded": False, "projects": {"/other": {}}})
    user.settle()
    content = user.read()
    content["projects"][FOLDER]["cost"] = 3
    content["theme"] = "dark"
    user.write(content)
    (done,) = undo_all(user.home)
    assert (done.undone, done.left) == (2, 0)
    assert user.read() == {"onboarded": False, "projects": {"/other": {}, FOLDER: {"cost": 3}}, "theme": "dark"}
    assert undo_all(user.home) == []


def test_a_value_that_the_user_set_otherwise_since_is_left(user: User) -> None:
    user.settle()
    user.write({**user.read(), "onboarded": "later"})
    (done,) = undo_all(user.home)
    assert (done.undone, done.left) == (1, 1)
    assert user.read() == {"onboarded": "later"}


def test_a_file_that_was_made_for_it_goes_when_nothing_else_is_in_it(user: User) -> None:
    user.settle()
    undo_all(user.home)
    assert not user.file.exists()


def test_settled_again_after_a_user_took_it_back_it_is_still_undone_to_the_beginning(user: User) -> None:
    user.write({"onboarded": False})
    user.settle()
    user.write({"onboarded": None})
    user.settle()
    undo_all(user.home)
    assert user.read() == {"onboarded": False}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"projects": 3}', b"\xff\xfe"])
def test_a_file_that_is_not_understood_is_left_alone(user: User, content: bytes) -> None:
    user.file.write_bytes(content)
    with pytest.raises(UserFileUnusable, match="left alone"):
        user.settle()
    assert user.file.read_bytes() == content
    assert not user.file.with_name(".tool.json.lock").exists()


def test_mode_and_link_stay(user: User, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.json"
    kept.write_text("{}")
    kept.chmod(0o640)
    user.file.symlink_to(kept)
    user.settle()
    assert user.file.is_symlink()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert json.loads(kept.read_text())["onboarded"] is True


def test_the_programs_own_lock_is_respected_and_a_dead_one_is_taken_over(user: User) -> None:
    user.write({})
    lock = user.file.with_name(".tool.json.lock")
    lock.mkdir()
    seen: list[Any] = []
    threading.Timer(0.2, lambda: (seen.append(user.read()), lock.rmdir())).start()
    user.settle()
    assert seen == [{}]
    undo_all(user.home)
    lock.mkdir()
    long_ago = time.time() - 60
    os.utime(lock, (long_ago, long_ago))
    assert user.settle()
    assert not lock.exists()


def test_claudes_file_is_where_claude_looks_for_it(tmp_path: Path) -> None:
    (what,) = read_manifest(Catalog(Catalog.open().shipped), "claude").unattended.user_files
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    settle(Home(tmp_path / "m"), what, PLACE, {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(elsewhere)})
    settle(Home(tmp_path / "m"), what, PLACE, {"HOME": str(tmp_path)})
    for path in (elsewhere / ".claude.json", tmp_path / ".claude.json"):
        assert json.loads(path.read_text())["projects"] == {FOLDER: {"hasTrustDialogAccepted": True}}


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    content=st.dictionaries(st.sampled_from(["onboarded", "theme", "x"]), jsons, max_size=3),
    projects=st.none()
    | st.dictionaries(st.sampled_from([FOLDER, "/other"]), st.dictionaries(st.just("trusted"), jsons)),
)
def test_whatever_was_in_the_file_undoing_brings_it_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], projects: dict[str, Any] | None
) -> None:
    user = User(tmp_path_factory.mktemp("user"))
    before = content if projects is None else {**content, "projects": projects}
    user.write(before)
    changed = user.settle()
    undo_all(user.home)
    assert user.read() == before
    assert changed or (before.get("onboarded") is True and before["projects"][FOLDER]["trusted"] is True)
