"""Requests: whole ones in good faith, with one odd field, with many, and bytes that are none."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.fuzz.support.values import DOUBLES, Values, times

NEEDED: Final = frozenset(
    (
        "user_id", "video_id", "video_ids", "interaction", "interactions", "interaction_type", "session_id", "requests",
        "sentiment", "duration_ms", "videos", "author_ids", "restorations", "id", "reason", "actor",
    )
)  # fmt: skip
"""Fields without which methods refuse a request, so that others would never be looked at."""
MANY: Final = (0, 1, 2, 5, 33, 101)
TOO_MANY: Final = (1_001, 10_001)
LONG: Final = 20_000
"""Texts together of which there are not thousands, as the request would not fit."""
MAX_BYTES: Final = 3 << 20
"""Of a request; gRPC takes 4 MiB."""
MAX_DEPTH: Final = 6
TIMESTAMP: Final = "google.protobuf.Timestamp"


class Messages:
    """Makes requests of any type from its descriptor.

    Args:
        values: Of their fields.
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        self._rng = values.rng
        self._accepted: defaultdict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=50))

    def bytes_of(self, kind: Any) -> bytes:
        """Return a request on the wire."""
        message = kind()
        chance = self._rng.random()
        accepted = self._accepted[kind.DESCRIPTOR.full_name]
        if accepted and chance < 0.3:  # what was accepted once, with a change
            message.MergeFromString(self._rng.choice(accepted))
            self._make_one_odd(message)
            return self._on_the_wire(message)
        self._fill(message, oddness=0.0 if chance < 0.8 else 0.5, share=self._rng.choice((0.1, 0.3, 0.7, 0.95)))
        if 0.6 <= chance < 0.8:
            self._make_one_odd(message)
        return self._on_the_wire(message)

    def sweep(self, kind: Any) -> list[bytes]:
        """Return requests that are right but for one float or time: each of them with each value that it can have."""
        return [
            self._with(kind, path, value)
            for path in paths(kind.DESCRIPTOR)
            for value in (times() if path[-1].type == path[-1].TYPE_MESSAGE else DOUBLES)
        ]

    def _with(self, kind: Any, path: Sequence[Any], value: float) -> bytes:
        message = kind()
        self._fill(message, oddness=0.0, share=0.3)
        part = message
        for field in path[:-1]:
            below = getattr(part, field.name)
            part = below["a"] if is_map(field) else _last(below) if field.is_repeated else below
        self._fill(part, oddness=0.0, share=0.3)
        self._values.fit(part, path[-1])
        if path[-1].type == path[-1].TYPE_MESSAGE:
            getattr(part, path[-1].name).seconds = int(value)
        else:
            setattr(part, path[-1].name, value)
        data: bytes = message.SerializeToString()
        return data

    def accept(self, request: bytes, kind: Any, reply: Any) -> None:
        """Remember a request that was good, and the one for the next page of its reply."""
        accepted = self._accepted[kind.DESCRIPTOR.full_name]
        accepted.append(request)
        token = getattr(reply, "next_page_token", "")
        if token and "page_token" in kind.DESCRIPTOR.fields_by_name:
            following = kind.FromString(request)
            following.page_token = token
            accepted.append(following.SerializeToString())

    def _on_the_wire(self, message: Any) -> bytes:
        data: bytes = message.SerializeToString()
        if len(data) > MAX_BYTES:
            return data[:MAX_BYTES]
        return self._broken(data) if self._rng.random() < 0.25 else data

    def _fill(self, message: Any, *, oddness: float, share: float, depth: int = 0) -> None:
        if message.DESCRIPTOR.full_name == TIMESTAMP:
            self._values.timestamp(message, odd=self._rng.random() < oddness)
            return
        for field in message.DESCRIPTOR.fields:
            if depth < MAX_DEPTH and self._rng.random() < (0.98 if field.name in NEEDED else share):
                self._set(message, field, oddness=oddness, share=share, depth=depth)
        if not oddness:
            self._values.agree(message)

    def _set(self, message: Any, field: Any, *, oddness: float, share: float, depth: int) -> None:
        odd = self._rng.random() < oddness
        if is_map(field):
            self._map(getattr(message, field.name), field, odd=odd, depth=depth)
        elif field.is_repeated:
            count = self._rng.choice(MANY[1:4])
            if odd:
                count = self._rng.choice(TOO_MANY if self._rng.random() < 0.1 else MANY)
            if field.type == field.TYPE_MESSAGE:
                for _ in range(min(count, 60)):
                    self._fill(getattr(message, field.name).add(), oddness=oddness, share=share, depth=depth + 1)
            else:
                value = self._values.odd if odd else self._values.plausible
                first = [value(field) for _ in range(min(count, 40))]
                if sum(len(one) for one in first if isinstance(one, str)) > LONG:
                    first, count = first[:5], 5
                getattr(message, field.name).extend((first * (count // 40 + 1))[:count])
        elif field.type == field.TYPE_MESSAGE:
            part = getattr(message, field.name)
            part.SetInParent()
            self._fill(part, oddness=oddness, share=share, depth=depth + 1)
        else:
            setattr(message, field.name, self._values.odd(field) if odd else self._values.plausible(field))

    def _map(self, entries: Any, field: Any, *, odd: bool, depth: int) -> None:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        one = self._values.odd if odd else self._values.plausible
        for _ in range(self._rng.choice(MANY[:5])):
            if value.type != value.TYPE_MESSAGE:
                entries[one(key)] = one(value)
            elif depth < MAX_DEPTH:
                self._fill(entries[one(key)], oddness=float(odd), share=0.5, depth=depth + 1)

    def _make_one_odd(self, message: Any) -> None:
        """Change one field anywhere in a message that is right but for it."""
        places = self._places(message)
        if places:  # of all types, floats have most values that nobody thinks of
            weights = [4 if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT) else 1 for _, field in places]
            ((part, field),) = self._rng.choices(places, weights)
            part.ClearField(field.name)
            self._set(part, field, oddness=1.0, share=0.9, depth=MAX_DEPTH - 1)

    def _places(self, message: Any) -> "list[tuple[Any, Any]]":
        places = [(message, field) for field in message.DESCRIPTOR.fields]
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE and not is_map(field):
                for part in value[:3] if field.is_repeated else [value]:
                    places += self._places(part)
        return places

    def _broken(self, data: bytes) -> bytes:
        rng = self._rng
        change = rng.choice((self._flip, self._cut, self._no_text, self._unknown, self._deep, lambda one: one + one))
        return change(data) if rng.random() < 0.95 else rng.randbytes(rng.randrange(300))

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(min(len(data), self._rng.randint(1, 4))):
            changed[self._rng.randrange(len(changed))] = self._rng.randrange(256)
        return bytes(changed)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._rng.randrange(len(data) + 1)]

    def _no_text(self, data: bytes) -> bytes:
        """Put bytes that are no UTF-8, half of a surrogate pair among them, where a text may stand."""
        bad = self._rng.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"a\x80", b"\xf4\x90\x80\x80"))
        number = self._rng.randint(1, 12)
        return data + bytes([number << 3 | 2, len(bad)]) + bad

    def _unknown(self, data: bytes) -> bytes:
        long = b"\xfa\x3f\x80\x80\x04" + bytes(1 << 16)
        more = (b"\xf8\x3f\x01", b"\xfa\x3f\x03abc", b"\xfb\x3f" * 120, b"\x7a\xff\xff\xff\xff\x0f", long)
        return data + self._rng.choice(more)

    def _deep(self, data: bytes) -> bytes:
        """Put messages in messages in messages."""
        inner, tag = b"", bytes([self._rng.randint(1, 12) << 3 | 2])
        for _ in range(self._rng.choice((20, 99, 101, 400))):
            size = len(inner)
            prefix = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
            inner = tag + prefix + inner
        return data + inner


def _last(parts: Any) -> Any:
    """Return a part of a list, a new one where there is none."""
    return parts[0] if parts else parts.add()


def is_map(field: Any) -> bool:
    """Return whether a field is a map."""
    return field.type == field.TYPE_MESSAGE and bool(field.message_type.GetOptions().map_entry)


def paths(descriptor: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the fields that lead to each float and each time of a message, itself the last."""
    for field in descriptor.fields:
        if is_map(field):
            value = field.message_type.fields_by_name["value"]
            if value.type == value.TYPE_MESSAGE and len(above) < MAX_DEPTH:
                yield from paths(value.message_type, (*above, field))
        elif (field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT) and not field.is_repeated) or (
            field.type == field.TYPE_MESSAGE and field.message_type.full_name == TIMESTAMP
        ):
            yield (*above, field)
        elif field.type == field.TYPE_MESSAGE and len(above) < MAX_DEPTH:
            yield from paths(field.message_type, (*above, field))
