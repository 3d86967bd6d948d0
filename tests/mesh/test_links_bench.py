"""bench/links runs, on real hosts behind a switch that loses frames; its long run is for people."""

from __future__ import annotations

import shutil

import pytest

from bench import links


async def test_a_host_behind_a_lossy_switch_stays_live_for_a_moment() -> None:
    if shutil.which("nft") is None:
        pytest.skip("frames are dropped by nft")
    (row,) = await links.run(hosts=1, rounds=0, seconds=2.0, losses=[10])
    assert row.kept, row
