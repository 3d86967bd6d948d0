"""In which order a host dials the replicas: its own, so that a fleet does not land on one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.errors import Unreachable
from mosaic_framework.ids import new_id
from mosaic_hostagent import link as links
from mosaic_hostagent.addresses import FILE, KnownAddresses, following, spread

REPLICAS = ["a:7443", "b:7443", "c:7443"]
HOST = "0191d2f0-0000-7000-8000-000000000001"
addresses = st.lists(st.sampled_from([f"replica{number}:7443" for number in range(8)]), unique=True)


def test_hosts_are_spread_over_the_replicas_and_so_are_those_of_one_that_goes() -> None:
    orders = [spread(REPLICAS, host_id=str(new_id())) for _ in range(3_000)]
    firsts = Counter(order[0] for order in orders)
    assert set(firsts) == set(REPLICAS)
    assert min(firsts.values()) > 800, firsts
    after_a = Counter(order[1] for order in orders if order[0] == "a:7443")
    assert set(after_a) == {"b:7443", "c:7443"}
    assert min(after_a.values()) > 0.35 * sum(after_a.values()), after_a


@given(addresses, st.randoms())
def test_a_hosts_order_does_not_depend_on_the_order_in_which_it_is_told(told: list[str], random: object) -> None:
    order = spread(told, host_id=HOST)
    random.shuffle(told)  # type: ignore[attr-defined]
    assert spread(told, host_id=HOST) == order
    assert sorted(order) == sorted(told)


@given(addresses)
def test_a_replica_that_goes_leaves_the_order_of_the_others(told: list[str]) -> None:
    order = spread(told, host_id=HOST)
    for gone in told:
        left = [address for address in told if address != gone]
        assert spread(left, host_id=HOST) == [address for address in order if address != gone]


def test_replicas_that_live_come_before_those_that_were_known_before(tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path, host_id=HOST)
    first, second, third = spread(REPLICAS, host_id=HOST)
    assert known.to_dial(REPLICAS) == [first, second, third]
    known.learn([third, second])
    assert known.to_dial([first]) == [second, third, first]
    known.learn([third])
    assert known.to_dial([]) == [third, second]
    assert KnownAddresses(tmp_path, host_id=HOST).to_dial([]) == [third, second]


def test_what_was_told_to_another_host_is_not_dialled(tmp_path: Path) -> None:
    KnownAddresses(tmp_path, host_id=HOST).learn(REPLICAS)
    assert KnownAddresses(tmp_path, host_id=str(new_id())).to_dial(["d:7443"]) == ["d:7443"]


def test_no_more_addresses_are_kept_than_eight_with_those_that_live_first(tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path, host_id=HOST)
    known.learn([f"old{number}:7443" for number in range(8)])
    known.learn(REPLICAS)
    kept = known.to_dial([])
    assert (set(kept[:3]), len(kept)) == (set(REPLICAS), 8)
    assert KnownAddresses(tmp_path, host_id=HOST).to_dial([]) == kept


def test_what_is_no_address_is_neither_learned_nor_read(tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path, host_id=HOST)
    known.learn(["no address", "", "a:7443"])
    assert known.to_dial([]) == ["a:7443"]
    path = tmp_path / FILE
    path.write_text(path.read_text().replace("[", '["no address", '))
    assert KnownAddresses(tmp_path, host_id=HOST).to_dial([]) == ["a:7443"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": 1}', "\udcff", '{"host": "HOST", "addresses": 7}'])
def test_a_damaged_file_of_addresses_leaves_those_of_the_identity(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_bytes(content.replace("HOST", HOST).encode(errors="surrogateescape"))
    known = KnownAddresses(tmp_path, host_id=HOST)
    assert known.to_dial(["a:7443"]) == ["a:7443"]
    known.learn(["b:7443"])
    assert KnownAddresses(tmp_path, host_id=HOST).to_dial([]) == ["b:7443"]


def test_each_address_is_dialled_in_turn() -> None:
    dialled = [""]
    for _ in range(4):
        dialled.append(following(REPLICAS, dialled[-1]))
    assert dialled[1:] == ["a:7443", "b:7443", "c:7443", "a:7443"]
    assert following(REPLICAS, "gone:7443") == "a:7443"


def test_a_host_that_heard_who_lives_dials_those_before_one_that_is_known_to_be_away(tmp_path: Path) -> None:
    known = KnownAddresses(tmp_path, host_id=HOST)
    first, second, third = spread(REPLICAS, host_id=HOST)
    away = following(known.to_dial(REPLICAS), "")
    assert away == first
    at = following(known.to_dial(REPLICAS), away)
    assert at == second
    known.learn([second, third])
    assert following(known.to_dial(REPLICAS), at) == third


async def test_a_link_goes_on_after_the_address_that_it_had_when_the_order_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = [["a:1", "b:1", "c:1"], ["a:1", "b:1", "c:1"], ["b:1", "c:1", "a:1"]]
    dialled: list[str] = []
    enough = asyncio.Event()

    def dial(_identity: Any, address: str) -> Any:
        dialled.append(address)
        if len(dialled) == 3:
            enough.set()
        raise Unreachable("nobody is there")

    monkeypatch.setattr(links, "aio_channel", dial)
    monkeypatch.setattr(links, "before_next_dial", lambda _attempt, _failure: 0.0)
    link = links.Link(
        identity=lambda: Mock(expired=lambda: False),
        addresses=lambda _identity: orders[len(dialled)] if len(dialled) < 3 else orders[-1],
        outgoing=Mock(),
        handlers=Mock(),
        on_up=Mock(),
    )
    running = asyncio.create_task(link.run())
    await enough.wait()
    running.cancel()
    assert dialled[:3] == ["a:1", "b:1", "c:1"]
