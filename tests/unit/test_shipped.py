"""What is told of shipped data that changed, and which copies of it are brought up to date."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog, shipped_data
from mosaic_framework.contracts import digest_of
from mosaic_framework.overrides import begin_override, compare_override, override_path
from mosaic_framework.paths import Home
from mosaic_framework.reseed import inventory, read_seen, reseed
from mosaic_framework.shipped import Copy, Finding, Refresh, Seen, digest, plan_reseeding

OLD, NEW, MINE = "0" * 64, "1" * 64, "2" * 64
SEEN = Seen("0.1.0", {"roles/code.md": OLD})


def told(plan_findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.file, finding.change) for finding in plan_findings]


@pytest.mark.parametrize(
    ("now", "copies", "findings", "refreshes"),
    [
        ({"roles/code.md": OLD}, [], [], []),
        ({"roles/code.md": NEW}, [], [("roles/code.md", "changed")], []),
        ({}, [], [("roles/code.md", "gone")], []),
        ({"roles/code.md": OLD, "roles/new.md": NEW}, [], [("roles/new.md", "added")], []),
        # a copy nobody touched follows; one of the person's own stays, and is told only when its base moved
        (
            {"roles/code.md": NEW},
            [Copy("roles.local/code.md", "roles/code.md", OLD)],
            [("roles/code.md", "changed"), ("fleet/roles.local/code.md", "refreshed")],
            [Refresh("roles.local/code.md", "roles/code.md")],
        ),
        (
            {"roles/code.md": NEW},
            [Copy("roles.local/code.md", "roles/code.md", MINE, base=OLD)],
            [("roles/code.md", "changed"), ("fleet/roles.local/code.md", "kept")],
            [],
        ),
        ({"roles/code.md": OLD}, [Copy("roles.local/code.md", "roles/code.md", MINE, base=OLD)], [], []),
        ({"roles/code.md": OLD}, [Copy("roles.local/code.md", "roles/code.md", MINE)], [], []),
        # killed between a file and its base: the file is done, its base is left
        (
            {"roles/code.md": NEW},
            [Copy("roles.local/code.md", "roles/code.md", NEW, base=OLD)],
            [("roles/code.md", "changed")],
            [Refresh("roles.local/code.md", "roles/code.md", base_only=True)],
        ),
        (
            {},
            [Copy("roles.local/code.md", "roles/code.md", MINE, base=OLD)],
            [("roles/code.md", "gone"), ("fleet/roles.local/code.md", "kept")],
            [],
        ),
    ],
)
def test_untouched_copies_follow_and_touched_ones_stay(
    now: dict[str, str], copies: list[Copy], findings: list[tuple[str, str]], refreshes: list[Refresh]
) -> None:
    plan = plan_reseeding(now, SEEN, copies, seed=True)
    assert told(plan.findings) == findings
    assert plan.refreshes == refreshes


def test_without_a_record_nothing_counts_as_untouched_and_no_change_is_told() -> None:
    copy = Copy("presets.local/coding.yaml", "presets/coding.yaml", OLD)
    plan = plan_reseeding({"presets/coding.yaml": NEW}, None, [copy], seed=True)
    assert (plan.findings, plan.refreshes, plan.first) == ([], [], True)


def test_schemas_are_put_into_a_fleet_folder_that_lacks_them_and_nowhere_else() -> None:
    assert plan_reseeding({"schema/roster.schema.json": NEW}, None, [], seed=False).refreshes == []
    plan = plan_reseeding({"schema/roster.schema.json": NEW}, None, [], seed=True)
    assert plan.refreshes == [Refresh("schema/roster.schema.json", "schema/roster.schema.json")]


def test_the_digest_is_that_of_contracts_whatever_the_line_ends() -> None:
    text = "one\r\ntwo\rthree\n"
    assert digest(text.encode()) == digest_of(text) == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()


class Release:
    """Shipped data that can change, and a home with a layer over it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        for kind in ("roles", "profiles", "presets", "runtimes", "schema"):
            (self.data / kind).mkdir(parents=True)
            for path in (shipped_data() / kind).iterdir():
                if path.suffix in (".md", ".yaml", ".json"):
                    (self.data / kind / path.name).write_bytes(path.read_bytes())
        self.home = Home(folder / "home")
        self.home.fleet.mkdir(parents=True)
        self.catalog = Catalog(self.data, self.home.fleet)

    def change(self, file: str) -> None:
        path = self.data / file
        path.write_bytes(path.read_bytes() + b"\n# newer\n")


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


def test_the_first_look_records_every_shipped_file_and_the_second_finds_nothing(release: Release) -> None:
    first = reseed(release.home, release.catalog)
    assert first.first
    seen = read_seen(release.home)
    assert seen is not None
    assert dict(seen.files) == inventory(release.catalog)
    assert reseed(release.home, release.catalog).findings == []


def test_a_dry_run_writes_nothing(release: Release) -> None:
    reseed(release.home, release.catalog, dry_run=True)
    assert list(release.home.fleet.iterdir()) == []
    assert not release.home.state.exists()


def test_a_copied_preset_is_refreshed_until_it_is_touched(release: Release) -> None:
    reseed(release.home, release.catalog)
    copy = release.home.fleet / "presets.local" / "coding.yaml"
    copy.parent.mkdir()
    copy.write_bytes((release.data / "presets/coding.yaml").read_bytes())
    release.change("presets/coding.yaml")
    done = reseed(release.home, release.catalog)
    assert ("fleet/presets.local/coding.yaml", "refreshed") in told(done.findings)
    assert copy.read_bytes() == (release.data / "presets/coding.yaml").read_bytes()
    copy.write_text("mine\n")
    release.change("presets/coding.yaml")
    done = reseed(release.home, release.catalog)
    assert ("fleet/presets.local/coding.yaml", "kept") in told(done.findings)
    assert copy.read_text() == "mine\n"


def test_an_override_that_was_never_changed_follows_with_its_base(release: Release) -> None:
    reseed(release.home, release.catalog)
    path = begin_override(release.catalog, "code")
    release.change("roles/code.md")
    reseed(release.home, release.catalog)
    assert path.read_bytes() == (release.data / "roles/code.md").read_bytes()
    assert compare_override(release.catalog, "code").underneath == "same"


def test_an_override_of_ones_own_stays_and_is_told_when_its_base_moved(release: Release) -> None:
    reseed(release.home, release.catalog)
    path = begin_override(release.catalog, "code")
    path.write_text(path.read_text() + "\nMine.\n")
    before = path.read_bytes()
    release.change("roles/code.md")
    done = reseed(release.home, release.catalog)
    kept = next(one for one in done.findings if one.file == "fleet/roles.local/code.md")
    assert (kept.change, "mosaic persona diff code" in kept.note) == ("kept", True)
    assert path.read_bytes() == before


def test_an_override_that_cannot_be_read_or_is_a_link_is_the_persons(release: Release, tmp_path: Path) -> None:
    reseed(release.home, release.catalog)
    begin_override(release.catalog, "code").write_bytes(b"\xff\xfe")
    elsewhere = tmp_path / "elsewhere.md"
    elsewhere.write_bytes((release.data / "roles/review.md").read_bytes())
    override_path(release.catalog, "review").symlink_to(elsewhere)
    kept = elsewhere.read_bytes()
    release.change("roles/code.md")
    release.change("roles/review.md")
    reseed(release.home, release.catalog)
    assert override_path(release.catalog, "code").read_bytes() == b"\xff\xfe"
    assert override_path(release.catalog, "review").is_symlink()
    assert elsewhere.read_bytes() == kept


def test_a_schema_is_refreshed_unless_somebody_changed_it(release: Release) -> None:
    reseed(release.home, release.catalog)
    schema = release.home.fleet / "schema" / "roster.schema.json"
    release.change("schema/roster.schema.json")
    reseed(release.home, release.catalog)
    assert schema.read_bytes() == (release.data / "schema/roster.schema.json").read_bytes()
    schema.write_text("{}\n")
    release.change("schema/roster.schema.json")
    reseed(release.home, release.catalog)
    assert schema.read_text() == "{}\n"


def test_seeding_alone_leaves_what_changed_to_be_told_by_the_next_update(release: Release) -> None:
    reseed(release.home, release.catalog)
    release.change("profiles/research.yaml")
    reseed(release.home, release.catalog, only_seed=True)
    assert told(reseed(release.home, release.catalog).findings) == [("profiles/research.yaml", "changed")]
