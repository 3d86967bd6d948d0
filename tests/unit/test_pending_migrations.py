"""Which migrations are applied, and which registers are refused, is decided without a database."""

from __future__ import annotations

import pytest
from mosaic_controlplane.register.migrate import Applied, Migration, RegisterMismatch, migrations, pending

KNOWN = [Migration(1, "first", "…", "aaaa"), Migration(2, "second", "…", "bbbb")]


def test_an_empty_register_gets_all_of_them_in_order() -> None:
    assert pending(KNOWN, []) == KNOWN


def test_a_register_at_the_first_version_gets_the_second() -> None:
    assert pending(KNOWN, [Applied(1, "first", "aaaa")]) == KNOWN[1:]


def test_a_register_that_is_newer_than_the_program_is_refused() -> None:
    applied = [Applied(1, "first", "aaaa"), Applied(2, "second", "bbbb"), Applied(3, "third", "cccc")]
    with pytest.raises(RegisterMismatch, match="the register is at version 3, this program knows 2"):
        pending(KNOWN, applied)


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
