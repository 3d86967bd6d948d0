"""Requests that no honest client makes, made from the contract's descriptors by a seed.

Written as bytes, field by field, because a well-kept library refuses to make most of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_DEEPEST = 4

INTEGERS = (0, 1, 2, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    b"",
    b" ",
    b"default",
    b"alpha",
    b"anna",
    b"honest/worker",
    b"worker",
    b"0190b6e0-0000-7000-8000-0000000000ff",
    b"0190b6e0-0000-7000-8000-000000000001",
    b"00000000-0000-0000-0000-000000000000",
    b"0190b6e0-0000-7000-8000-00000000000",
    b"0190b6e0-0000-7000-8000-000000000001\0",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",  # half of a surrogate pair
    "☂ \u202e\ufeff".encode(),
    b"../../etc/passwd",
    b"'; drop table fleet.host; --",
    b"%s%n{0}{x!r}$(id)`id`",
    b"{}",
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"-1",
    b"1e400",
    b"9" * 400,
    b"x" * 300,
    b"x" * 100_000,
    b"\n" * 1_000,
    b"a/b/c/d/e/f",
    b"*",
)


def _decodable(text: bytes) -> bool:
    try:
        return "\0" not in text.decode()
    except UnicodeDecodeError:
        return False


DECODABLE = tuple(text for text in TEXTS if _decodable(text))


def varint(number: int) -> bytes:
    """Return a number as the wire has it, with its 64 bits."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, kind: int, content: bytes) -> bytes:
    """Return one field as the wire has it."""
    return varint(number << 3 | kind) + (varint(len(content)) if kind == _BYTES else b"") + content


class Malformer:
    """Makes requests of any message by one random source."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._ways: list[tuple[int, Callable[[Descriptor], bytes]]] = [
            (30, self._boundaries),
            (60, self._well_formed),
            (12, self._wrong_types),
            (8, self._cut_short),
            (6, self._noise),
            (5, self._flipped),
            (5, self._unknown_fields),
            (5, self._nested),
            (5, self._repeated),
            (2, self._huge),
            (2, lambda _: b""),
        ]

        self._texts = TEXTS

    def request(self, message: Descriptor) -> bytes:
        """Return the bytes of one request."""
        ((_, way),) = self._random.choices(self._ways, [weight for weight, _ in self._ways])
        return way(message)

    def _boundaries(self, message: Descriptor, depth: int = 0) -> bytes:
        """Fields of their right types, with values at the edge of what they hold."""
        fields = list(message.fields)
        chosen = [one for one in fields if self._random.random() < 0.6]
        return b"".join(
            self._value(one, depth)
            for one in chosen
            for _ in range(self._random.choice((1, 1, 1, 3)) if one.is_repeated else 1)
        )

    def _well_formed(self, message: Descriptor) -> bytes:
        """What a decoder takes: only what the fields say is wrong."""
        self._texts = DECODABLE
        try:
            return self._boundaries(message)
        finally:
            self._texts = TEXTS

    def _value(self, one: FieldDescriptor, depth: int) -> bytes:
        match one.type:
            case FieldDescriptor.TYPE_MESSAGE:
                inner = self._boundaries(one.message_type, depth + 1) if depth < _DEEPEST else b""
                return field(one.number, _BYTES, inner)
            case FieldDescriptor.TYPE_STRING | FieldDescriptor.TYPE_BYTES:
                return field(one.number, _BYTES, self._random.choice(self._texts))
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FIXED64 | FieldDescriptor.TYPE_SFIXED64:
                return field(one.number, _FIXED64, self._random.randbytes(8))
            case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_FIXED32 | FieldDescriptor.TYPE_SFIXED32:
                return field(one.number, _FIXED32, self._random.randbytes(4))
            case FieldDescriptor.TYPE_ENUM:
                return field(one.number, _VARINT, varint(self._random.choice((0, 1, 2, 3, 7, 99, 2**31 - 1, -1))))
            case _:
                return field(one.number, _VARINT, varint(self._random.choice(INTEGERS)))

    def _wrong_types(self, message: Descriptor) -> bytes:
        """Fields of the contract's numbers, each of any wire type."""
        out = []
        for one in message.fields:
            kind = self._random.choice((_VARINT, _FIXED64, _BYTES, _FIXED32))
            content = {
                _VARINT: varint(self._random.choice(INTEGERS)),
                _FIXED64: self._random.randbytes(8),
                _BYTES: self._random.choice(TEXTS),
                _FIXED32: self._random.randbytes(4),
            }[kind]
            out.append(field(one.number, kind, content))
        return b"".join(out)

    def _cut_short(self, message: Descriptor) -> bytes:
        whole = self._boundaries(message) or b"\x0a\x05ab"
        return whole[: self._random.randrange(len(whole))] if len(whole) > 1 else b"\x0a"

    def _noise(self, _message: Descriptor) -> bytes:
        return self._random.randbytes(self._random.choice((1, 7, 64, 1_000, 20_000)))

    def _flipped(self, message: Descriptor) -> bytes:
        whole = bytearray(self._boundaries(message))
        for _ in range(min(len(whole), 4)):
            whole[self._random.randrange(len(whole))] ^= 1 << self._random.randrange(8)
        return bytes(whole)

    def _unknown_fields(self, message: Descriptor) -> bytes:
        more = field(self._random.choice((900, 19_000, 2**29 - 1)), _BYTES, self._random.randbytes(50))
        return more + self._boundaries(message) + field(0, _VARINT, b"\0")[: self._random.choice((0, 2))]

    def _nested(self, message: Descriptor) -> bytes:
        """A message in a message, and so on, deeper than any decoder goes; or groups without an end."""
        if self._random.random() < 0.3:
            return varint(1 << 3 | _GROUP) * self._random.choice((10, 5_000))
        number = self._random.choice([one.number for one in message.fields] or [1])
        inner = b""
        for _ in range(self._random.choice((50, 120, 2_000))):
            inner = field(number, _BYTES, inner)
        return inner

    def _repeated(self, message: Descriptor) -> bytes:
        """One field many times over."""
        if not message.fields:
            return b""
        return self._value(self._random.choice(list(message.fields)), _DEEPEST - 1)[:2_000] * self._random.choice(
            (100, 3_000)
        )

    def _huge(self, message: Descriptor) -> bytes:
        texts = [one.number for one in message.fields if one.type == FieldDescriptor.TYPE_STRING] or [1]
        return field(self._random.choice(texts), _BYTES, b"y" * self._random.choice((1_000_000, 3_900_000, 4_400_000)))
