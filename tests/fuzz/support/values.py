"""Values of fields: plausible ones, and those at and beyond every bound that a server may have forgotten."""

import math
import random
import time
from collections import defaultdict, deque
from typing import Any, Final
from uuid import UUID

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
DOUBLES: Final = (
    0.0, -0.0, 1.0, -1.0, 0.5, 5.0, 5.0001, 5e-324, -5e-324, 2.2e-308, 1e-300, 1e-30, 1e30, 1e38, 3.5e38, 1e300,
    1.7976931348623157e308, -1.7976931348623157e308, math.nan, math.inf, -math.inf, 2.0**53, 2.0**63,
)  # fmt: skip
TEXTS: Final = (
    "", "a", " ", "x" * 128, "x" * 129, "é" * 64, "é" * 65, "x" * 512, "x" * 5_000, "\0", "a\0b", "\n", "a\r\nb",
    "\x7f",
    "\x85", "\u00a0", "\u2028", "\u202eabc", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "😀" * 32, "e\u0301",
    "'; DROP TABLE user_interactions; --", '"', "\\", "\\N", "\\.", "{}", "{a,b}", "[", "%s%n", "%00", "..",
    "../../etc/passwd",
    "/", "a/b", "current.json", "*", "[ab]", "?", "a=b", "#", "nan", "NaN", "null", "None", "true", "1e309", "-1", "0",
    "9" * 5_000, "٣٤", "<script>alert(1)</script>", "${jndi:ldap://x}", "|#tag:x", "a:1|c\nb:1|c",
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "2025.9", "=cmd|' /C calc'!A0",
)  # fmt: skip
SECONDS: Final = (
    0, 1, -1, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 2**31, 2**40, -(2**40), *INT64,
)  # fmt: skip
NANOS: Final = (0, 1, 999_999_999, 1_000_000_000, -1, *INT32)
DAY_S: Final = 86_400
HUGE_BYTES: Final = 1 << 20


OF_ONE_KIND: Final = {"rating": "INTERACTION_TYPE_RATING", "search_query": "INTERACTION_TYPE_SEARCH"}
"""Fields that interactions of one kind have."""


class Values:
    """Gives values for fields by their names and types; texts come back from replies, such as tokens.

    Args:
        rng: Chooses.
        known: Texts to begin with, by the name of the field.
    """

    def __init__(self, rng: random.Random, known: dict[str, list[str]]) -> None:
        self.rng = rng
        self._known: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=200))
        for name, texts in known.items():
            self._known[name].extend(texts)

    def learn(self, message: Any) -> None:
        """Remember the texts of a reply, under their names in requests."""
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING and not field.is_repeated:
                self._known[field.name.removeprefix("next_")].append(value)
            elif field.type == field.TYPE_MESSAGE and not field.message_type.GetOptions().map_entry:
                for one in value[:3] if field.is_repeated else [value]:
                    self.learn(one)

    def plausible(self, field: Any) -> Any:
        """Return what a caller in good faith may send."""
        rng = self.rng
        if field.type == field.TYPE_STRING:
            return self._plausible_text(field)
        if field.type == field.TYPE_ENUM:
            return rng.choice([one.number for one in field.enum_type.values][1:] or [0])
        if field.type == field.TYPE_BOOL:
            return rng.random() < 0.5
        if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            return rng.random()
        if field.type == field.TYPE_BYTES:
            return rng.randbytes(8)
        return rng.choice((1, 5, 20, 100, 500, 8_000))

    def agree(self, message: Any) -> None:
        """Let go what only another kind of interaction has, or make it of that kind."""
        for name, kind in OF_ONE_KIND.items():
            fields = message.DESCRIPTOR.fields_by_name
            if name in fields and any(field.name == name for field, _ in message.ListFields()):
                if self.rng.random() < 0.3:
                    self.fit(message, fields[name])
                elif message.interaction_type != _number(message, kind):
                    message.ClearField(name)

    def fit(self, message: Any, field: Any) -> None:
        """Make a message of the kind that may have a field, where only one may."""
        if field.name in OF_ONE_KIND and "interaction_type" in message.DESCRIPTOR.fields_by_name:
            message.interaction_type = _number(message, OF_ONE_KIND[field.name])

    def _plausible_text(self, field: Any) -> str:
        rng = self.rng
        name = field.name.removesuffix("s") if field.is_repeated else field.name
        if name in ("event_id", "session_id") and rng.random() < 0.5:
            return str(UUID(int=rng.getrandbits(128), version=4))
        if name.endswith("token") and rng.random() < 0.9:
            return ""  # one of another request is refused
        known = self._known["video_id" if name.endswith("video_id") else name]
        if known:
            return rng.choice(known)
        return (
            ""
            if name.endswith(("_id", "token", "version")) and not field.is_repeated
            else rng.choice(("home", "abc", "sim-1"))
        )

    def odd(self, field: Any) -> Any:
        """Return what nobody in good faith sends."""
        rng = self.rng
        if field.type == field.TYPE_STRING:
            return self._odd_text(field.name)
        if field.type == field.TYPE_ENUM:
            return rng.choice((0, -1, *INT32, rng.randint(1, 40)))
        if field.type == field.TYPE_BOOL:
            return rng.random() < 0.5
        if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            return rng.choice(DOUBLES)
        if field.type == field.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 1000)))
        least, most = bounds(field)
        return max(
            least, min(most, rng.choice((least, least + 1, -1, 0, 1, 501, 10**6, most - 1, most, rng.getrandbits(62))))
        )

    def _odd_text(self, name: str) -> str:
        rng = self.rng
        chance = rng.random()
        known = self._known[name]
        if known and chance < 0.35:  # one that was good, changed at one place
            text = rng.choice(known)
            place = rng.randrange(len(text) + 1)
            return text[:place] + rng.choice(("A", "=", "_", "\0", "é", "")) + text[place + 1 :]
        if chance < 0.37:
            return rng.choice("xé") * (HUGE_BYTES // 2)
        if chance < 0.9:
            return rng.choice(TEXTS)
        return "".join(chr(rng.choice((rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x10FFFF)))) for _ in range(40))

    def timestamp(self, message: Any, *, odd: bool) -> None:
        """Fill in a time of the last days, or one that may be none at all."""
        if odd:
            message.seconds = self.rng.choice(times())
            message.nanos = self.rng.choice(NANOS)
        else:
            message.seconds = int(time.time()) - self.rng.randrange(6 * DAY_S)


def times() -> tuple[int, ...]:
    """Return seconds since 1970 near to and beyond what an event may have."""
    now = int(time.time())
    return (*SECONDS, now + 299, now + 301, now - 7 * DAY_S, now - 8 * DAY_S, now + 30 * DAY_S)


def bounds(field: Any) -> tuple[int, int]:
    """Return the least and the largest integer that a field can carry."""
    if field.type in (field.TYPE_UINT32, field.TYPE_FIXED32):
        return 0, 2**32 - 1
    if field.type in (field.TYPE_UINT64, field.TYPE_FIXED64):
        return 0, 2**64 - 1
    return INT32 if field.type in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32) else INT64


def _number(message: Any, kind: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name["interaction_type"].enum_type.values_by_name[kind].number)
