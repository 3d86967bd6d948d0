"""Secrets are found by their shape, and ordinary text, code, hashes and ids are not taken for one."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework import secret_shapes
from mosaic_framework.secret_shapes import Finding, SecretInText, find, refuse

# Put together here, so that no scanner takes this file for a leak.
MIXED = "a8Kd93LqPz72XvBn5TrY61WmQe04HsGuJc2fVt8o"
UPPER = "J4QK7RZ2MXV5NT3B"
JWT = ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dBjftJeZ4CVPmB92K27uhbUJU1p1r_wW1g"])

SECRETS = {
    "private key": ["-----BEGIN " + kind + "PRIVATE KEY-----" for kind in ("", "RSA ", "OPENSSH ", "EC ")],
    "AWS access key": ["AKIA" + UPPER, f"key is (ASIA{UPPER})"],
    "AWS secret key": [f"aws_secret_access_key = {MIXED}", f'AWS_SECRET_KEY: "{MIXED}"'],
    "GitHub token": [f"ghp_{MIXED[:36]}", f"gho_{MIXED[:36]}", f"github_pat_{MIXED[:22]}_{MIXED}{MIXED[:19]}"],
    "GitLab token": [f"glpat-{MIXED[:20]}"],
    "Slack token": [f"xoxb-123456789012-{MIXED[:24]}", f"xapp-1-A0123456-{MIXED[:30]}"],
    "Slack webhook": [f"https://hooks.slack.com/services/T0ABCDEF1/B0ABCDEF2/{MIXED[:24]}"],
    "Google API key": [f"AIza{MIXED[:35]}"],
    "Google OAuth secret": [f"GOCSPX-{MIXED[:28]}"],
    "Google OAuth token": [f"ya29.{MIXED}"],
    "Stripe key": [f"sk_live_{MIXED[:24]}", f"rk_test_{MIXED[:24]}"],
    "webhook signing secret": [f"whsec_{MIXED[:32]}"],
    "Anthropic API key": [f"sk-ant-api03-{MIXED}"],
    "OpenAI API key": [f"sk-{MIXED}", f"sk-proj-{MIXED}"],
    "Hugging Face token": [f"hf_{MIXED[:34]}"],
    "npm token": [f"npm_{MIXED[:36]}"],
    "PyPI token": [f"pypi-AgE{MIXED}{MIXED}"],
    "SendGrid key": [f"SG.{MIXED[:22]}.{MIXED}abc"],
    "DigitalOcean token": ["dop_v1_" + hashlib.sha256(b"x").hexdigest()],
    "JSON web token": [JWT, f"Authorization: Bearer {JWT}"],
    "mosaic join token": [f"mosaic1.{MIXED}{MIXED}.{MIXED}"],
    "password in a URL": ["postgres://app:k3Jx91Lp0QzW@db.example/app"],
    "value of a secret": [
        f"api_key={MIXED}",
        f'"apiKey": "{MIXED}"',
        f"API-KEY: {hashlib.md5(b'x').hexdigest()}",
        f"export ACME_SECRET_KEY_PROD='{MIXED[:24]}'",
        f"auth_token := {MIXED}",
        "password = kJ8x2Lq0Pz7Wm4Tr9",
    ],
}

ORDINARY = [
    "Please rename the function get_api_key to read_api_key and run the tests.",
    "token = os.environ['API_TOKEN']",
    "api_key = settings.PRODUCTION_API_KEY_V2_FOR_2024",
    "secret_key: ${{ secrets.DEPLOY_KEY_2024_PRODUCTION }}",
    "password = get_password_from_vault_2024('x1')",
    "api_key=<your key here, 40 characters>",
    "API_KEY=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "postgres://postgres:postgres@localhost:5432/app",
    "https://user:${PASSWORD_1234567}@example.org/",
    "ssh://git@github.com:22/acme/repo.git",
    "the branch is called sk-improve-the-way-we-handle-long-lines-of-text",
    "git revert 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "integrity sha512-" + "q" * 40 + "AbC123==",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "AKIA is how an access key of AWS begins; ghp_ is GitHub's and xoxb- is Slack's.",
    "npm_config_registry_and_other_long_variable_names=1",
    "private_key_path = /etc/ssl/private/server-2024-01.pem",
    "eyJ is how base64 of a JSON object begins",
    "def test_secret_key_rotation_happens_after_30_days(self) -> None: ...",
    "cache_key=9fceb02d0ae598e95dc970b74767f19372d61af8",
    "monkey: 12345678901234567890123456789012",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in SECRETS.items() for text in texts])
def test_a_secret_is_found_wherever_it_stands_and_told_by_kind_and_line(kind: str, text: str) -> None:
    body = f"first line\nuse this: {text} and go on\nlast line"
    assert Finding(kind, 2) in find(body)
    with pytest.raises(SecretInText) as refused:
        refuse(body)
    assert f"{kind} (line 2)" in refused.value.what
    secret = text.split()[-1][-12:]
    assert secret not in " ".join((refused.value.what, refused.value.why, refused.value.next_step))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_and_code_is_not_refused(text: str) -> None:
    assert find(text) == []


def test_every_shape_has_an_example() -> None:
    assert {shape.kind for shape in secret_shapes.shapes()} == set(SECRETS)


@given(st.binary(max_size=200), st.sampled_from(["md5", "sha1", "sha256", "sha512"]))
def test_a_hash_is_not_taken_for_a_secret(content: bytes, name: str) -> None:
    digest = hashlib.new(name, content).hexdigest()
    assert find(f"commit {digest}\n{name}:{digest}\nchecksum = {digest}\n/objects/{digest[:2]}/{digest[2:]}") == []


@given(st.uuids())
def test_a_uuid_is_not_taken_for_a_secret(value: uuid.UUID) -> None:
    assert find(f"message {value}, id={value}, {{'request_id': '{value.hex}'}}") == []


WORD = r"[a-z]{1,12}|[A-Z][a-z]{1,10}|[a-z_]{3,30}\(\)|\d{1,6}|[=+*/(){}:;,.\[\]-]{1,2}"


@given(st.lists(st.from_regex(WORD, fullmatch=True)))
def test_words_numbers_and_punctuation_are_not_taken_for_a_secret(words: list[str]) -> None:
    assert find(" ".join(words)) == []


UNITS = ["a", "key", "api_key", "api_key=", "eyJ", "x://a:", "password:", "xoxb-1-", "mosaic1.", "\n", "aws secret"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", UNITS)
def test_no_text_of_the_largest_size_makes_the_search_explode(unit: str) -> None:
    assert find((unit * (256 * 1024 // len(unit) + 1))[: 256 * 1024]) == []
