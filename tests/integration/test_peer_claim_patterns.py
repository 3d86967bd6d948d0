"""A selector of cards means the same in the register as it does in the framework."""

from __future__ import annotations

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaic_controlplane.federation.patterns import bounds
from mosaic_framework.selector import Of, SelectorError, card_facts, parse

_PATTERNS = st.text(alphabet="ab*?[]!-^\\.=$(+", min_size=1, max_size=6)
_VALUES = st.text(alphabet="ab-^\\].=$(+![", max_size=5)
_KEYS = st.sampled_from(["class", "mission", "label.k", "label.k.x"])
_PLACES = st.lists(st.tuples(_KEYS, _PATTERNS), min_size=1, max_size=4)
_LABELS = st.lists(_VALUES.map(lambda value: f"k={value}") | st.sampled_from(["k", "k.x=a", "kxx=a"]), max_size=3)

_FITS = """
select ($1::text[] is null or $4::text ~ any($1)) and ($2::text[] is null or $5::text ~ any($2))
  and not exists (select from unnest($3::text[]) as needed (pattern)
                  where not exists (select from unnest($6::text[]) as label where label ~ needed.pattern))
"""


async def test_a_selector_chooses_the_same_cards_in_the_register(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    cases: list[tuple[str, str, str, list[str]]] = []

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_PLACES, _VALUES, _VALUES, _LABELS)
    def collect(chosen: list[tuple[str, str]], card_class: str, mission: str, labels: list[str]) -> None:
        cases.append((",".join(f"{key}={pattern}" for key, pattern in chosen), card_class, mission, labels))

    collect()
    try:
        for text, card_class, mission, labels in cases:
            try:
                chosen = parse(text, Of.CARDS)
            except SelectorError:
                continue
            wanted = chosen.matches(card_facts(card_class=card_class, mission=mission, labels=labels))
            bound = bounds(chosen)
            found = await connection.fetchval(
                _FITS, bound.classes, bound.missions, bound.labels, card_class, mission, labels
            )
            assert found == wanted, (text, card_class, mission, labels, bound)
    finally:
        await connection.close()
