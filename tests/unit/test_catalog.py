"""The catalog: shipped data, and the user's own layer over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mosaic_framework.catalog import FILE_LIMIT, Catalog, DataUnreadable, shipped_data
from mosaic_framework.errors import NotFound
from mosaic_framework.paths import Home


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "shipped" / "profiles").mkdir(parents=True)
    (tmp_path / "own" / "profiles.local").mkdir(parents=True)
    (tmp_path / "shipped" / "profiles" / "research.yaml").write_text("id: research\n")
    return Catalog(tmp_path / "shipped", tmp_path / "own")


def test_shipped_data_is_found_in_this_installation() -> None:
    assert (shipped_data() / "runtimes").is_dir()


def test_the_own_layer_lies_in_the_home(tmp_path: Path) -> None:
    assert Catalog.open(Home(tmp_path)).own_folder("roles") == tmp_path / "fleet" / "roles.local"


def test_a_shipped_file_is_found_by_its_stem(catalog: Catalog) -> None:
    file = catalog.get("profiles", "research", ".yaml")
    assert (file.own, file.read()) == (False, "id: research\n")


def test_a_users_own_file_wins_and_the_shipped_one_can_still_be_read(catalog: Catalog) -> None:
    assert catalog.own is not None
    (catalog.own / "profiles.local" / "research.yaml").write_text("id: mine\n")
    assert catalog.get("profiles", "research", ".yaml").read() == "id: mine\n"
    shipped = catalog.find_shipped("profiles", "research", ".yaml")
    assert shipped is not None
    assert shipped.read() == "id: research\n"
    assert [file.own for file in catalog.files("profiles", ".yaml").values()] == [True]


def test_a_file_that_is_not_there_is_told_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="there is no profile 'reserch'") as caught:
        catalog.get("profiles", "reserch", ".yaml")
    assert caught.value.why == "the nearest: research"


@pytest.mark.parametrize("name", ["../research", "a/b", "", ".", "..", "/etc/passwd", "x\0y", ".hidden", "a" * 300])
def test_no_name_leads_out_of_the_folder(catalog: Catalog, name: str) -> None:
    assert catalog.find("profiles", name, ".yaml") is None
    assert catalog.find_shipped("profiles", name, ".yaml") is None


def test_editors_leavings_are_no_data(catalog: Catalog) -> None:
    for name in (".research.yaml.swp", "research.yaml~", ".#x.yaml"):
        (catalog.folder("profiles") / name).write_text("")
    assert list(catalog.files("profiles", ".yaml")) == ["research"]


@pytest.mark.parametrize(("content", "told"), [(b"\xff\xfe", "UTF-8"), (b"x" * (FILE_LIMIT + 1), "too large")])
def test_a_file_that_is_no_text_is_told(catalog: Catalog, content: bytes, told: str) -> None:
    (catalog.folder("profiles") / "bad.yaml").write_bytes(content)
    with pytest.raises(DataUnreadable, match=told):
        catalog.get("profiles", "bad", ".yaml").read()
