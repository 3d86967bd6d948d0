"""What a join token is as text."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from mosaic_framework import pki
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.errors import TokenInvalid

TOKEN = JoinToken(
    kind="host",
    tenant="default",
    name="builder",
    trust_domain="abc.mosaic",
    addresses=["10.0.0.1:7440", "[::1]:7440"],
    authority_der=pki.certificate_to_der(pki.Authority.create("abc.mosaic").certificate),
    secret="s3cret_-value",
)


def spelt(content: object, secret: str = "s") -> str:
    return f"mosaic1.{base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip('=')}.{secret}"


def content_of(text: str) -> dict[str, object]:
    packed = text.split(".")[1]
    content: dict[str, object] = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    return content


def test_a_token_is_one_word_and_is_read_back_as_it_was_written() -> None:
    text = TOKEN.format()
    assert text.split() == [text]
    assert text.startswith("mosaic1.")
    assert JoinToken.parse(text) == TOKEN


def test_a_token_survives_a_terminal_that_wrapped_it() -> None:
    text = TOKEN.format()
    assert JoinToken.parse(f"  {text[:80]}\n{text[80:160]}\r\n {text[160:]}\n") == TOKEN


def test_the_secret_is_in_no_repr_of_a_token() -> None:
    assert TOKEN.secret not in repr(TOKEN)
    assert TOKEN.secret not in str(content_of(TOKEN.format()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "mosaic1.",
        "mosaic1..",
        "mosaic1.####.s",
        "mosaic2" + TOKEN.format()[7:],
        TOKEN.format().rpartition(".")[0],
        TOKEN.format().rpartition(".")[0] + ".",
        TOKEN.format()[:100] + TOKEN.format()[130:],
        "mosaic1." + "A" * 20_000 + ".s",
        spelt([]),
        spelt("text"),
        spelt({}),
    ],
)
def test_rubbish_is_told_to_be_no_token(text: str) -> None:
    with pytest.raises(TokenInvalid) as refused:
        JoinToken.parse(text)
    assert "make a new one where it came from" in refused.value.next_step


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "root"),
        ("kind", None),
        ("name", "../x"),
        ("name", 7),
        ("tenant", "a/b"),
        ("trust_domain", "x/y"),
        ("addresses", []),
        ("addresses", [""]),
        ("addresses", "10.0.0.1:7440"),
        ("addresses", [7]),
        ("authority", "AAAA"),
        ("authority", None),
    ],
)
def test_a_token_with_a_wrong_part_is_told_to_be_no_token(key: str, value: object) -> None:
    with pytest.raises(TokenInvalid):
        JoinToken.parse(spelt({**content_of(TOKEN.format()), key: value}))


def test_a_token_says_who_its_holder_becomes() -> None:
    assert str(replace(TOKEN, kind="operator").spiffe_id()) == "spiffe://abc.mosaic/tenant/default/operator/builder"
