"""Which migrations are applied, and which registers are refused, is decided without a database."""

from __future__ import annotations

import pytest
from mosaic_controlplane.register.migrate import Applied, Migration, RegisterMismatch, migrations, pending

KNOWN = [Migration(1, "first", "…", "aaaa"), Migration(2, "second", "…", "bbbb")]

DONE = [Applied(1, "first", "aaaa"), Applied(2, "second", "bbbb")]


def test_an_empty_register_gets_all_of_them_in_order() -> None:
    assert pending(KNOWN, []) == KNOWN


def test_a_register_at_the_first_version_gets_the_second() -> None:
    assert pending(KNOWN, [Applied(1, "first", "aaaa")]) == KNOWN[1:]


def test_a_register_that_a_newer_program_has_only_added_to_is_taken_as_it_is() -> None:
    assert pending(KNOWN, [*DONE, Applied(3, "third", "cccc"), Applied(5, "fifth", "eeee")]) == []


def test_a_register_whose_upgrade_a_newer_program_has_completed_is_refused() -> None:
    applied = [*DONE, Applied(3, "third", "cccc", "after")]
    with pytest.raises(RegisterMismatch, match="the register is at version 3, this program knows 2"):
        pending(KNOWN, applied)


def test_what_waits_for_older_replicas_is_still_to_be_applied_whatever_was_added_since() -> None:
    known = [*KNOWN, Migration(3, "third", "…", "cccc", "after"), Migration(4, "fourth", "…", "dddd")]
    assert pending(known, [*DONE, Applied(4, "fourth", "dddd")]) == [known[2]]


def test_a_migration_of_another_line_of_releases_is_refused() -> None:
    known = [*KNOWN, Migration(4, "fourth", "…", "dddd")]
    with pytest.raises(RegisterMismatch, match="which this program does not know"):
        pending(known, [*DONE, Applied(3, "of_others", "cccc")])


def test_a_migration_whose_text_has_changed_is_refused() -> None:
    with pytest.raises(RegisterMismatch, match="migration 0001_first of the register differs"):
        pending(KNOWN, [Applied(1, "first", "ffff")])


def test_a_register_that_skipped_a_migration_is_refused() -> None:
    with pytest.raises(RegisterMismatch, match="the register lacks migration 0001_first"):
        pending(KNOWN, [Applied(2, "second", "bbbb")])


def test_the_programs_own_migrations_have_each_a_number_of_its_own_and_begin_with_1() -> None:
    versions = [migration.version for migration in migrations()]
    assert versions == sorted(set(versions))
    assert versions[0] == 1
