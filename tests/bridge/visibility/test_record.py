"""Records of the catalogue's topic: read by what they say, refused by name."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from bridge.visibility.changes import FromKafka, Kind, Limits, Stored
from bridge.visibility.record import KafkaHide, NewerSchemaError, read_kafka_hide, read_record

HIDE_ID = UUID("123e4567-e89b-12d3-a456-426614174000")


def state(**fields: Any) -> bytes:
    return json.dumps({"schema": 1, "videoId": "v", "revision": 5, "hidden": None, **fields}).encode()


def test_a_state_says_whether_and_where_a_video_may_be_shown() -> None:
    hidden = {"reason": "r", "actor": "a", "since": "2026-01-01T00:00:00Z", "revision": 4}
    read = read_record(
        "video:v",
        state(hidden=hidden, storedHides=["h"], expiresAt="1970-01-01T00:01:00Z", deniedCountries=["DE"], novel=1),
    )
    assert read.changes == [
        Stored(kind=Kind.VIDEO, id="v", revision=5, hidden=True, taken_in=("h",)),
        Limits(video_id="v", revision=5, expires_at_s=60, denied=frozenset({"DE"})),
    ]
    assert read.unknown_fields == 1
    author = json.dumps({"schema": 1, "authorId": "a:b", "revision": 3, "hidden": None}).encode()
    assert read_record("author:a:b", author).changes == [Stored(kind=Kind.AUTHOR, id="a:b", revision=3, hidden=False)]


@pytest.mark.parametrize("kind", [*Kind])
def test_a_hide_by_kafka_alone_is_read_back(kind: Kind) -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    hide = KafkaHide(kind=kind, id="ü", hide_id=HIDE_ID, reason="why\u2028", actor="ann", since=since)
    message = hide.message()
    assert message.key == f"{kind}:ü"
    assert message.value is not None
    assert read_kafka_hide(message.value.encode()) == hide
    change = FromKafka(kind=kind, id="ü", hide_id=str(HIDE_ID))
    assert read_record(message.key, message.value.encode()).changes == [change]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("video:v", b""),
        ("video:v", b"\xff"),
        ("video:v", b"[]"),
        ("video:v", b"[" * 100_000),
        ("video:v", b"{}"),
        ("video:v", state(schema=0)),
        ("video:v", state(schema="1")),
        ("video:v", state(videoId="w")),
        ("video:v", state(videoId=None)),
        ("video:v", state(revision=-1)),
        ("video:v", state(revision=1.0)),
        ("video:v", state(revision=True)),
        ("video:v", state(revision=None)),
        ("video:v", state(revision=None, hidden={})),
        ("video:v", state(revision=None, hidden={"hideId": "x"})),
        ("video:v", state(hidden="yes")),
        ("video:v", state(storedHides="h")),
        ("video:v", state(storedHides=[1])),
        ("video:v", state(expiresAt="soon")),
        ("video:v", state(expiresAt="2026-01-01T00:00:00")),
        ("video:v", state(expiresAt=12)),
        ("video:v", state(deniedCountries=["DE"] * 301)),
        ("video:", state()),
        ("user:v", state()),
        ("v", state()),
        ("", state()),
    ],
)
def test_anything_else_is_refused(key: str, value: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # of whatever words
        read_record(key, value)
    assert not isinstance(caught.value, NewerSchemaError)


def test_a_newer_schema_is_told_apart() -> None:
    with pytest.raises(NewerSchemaError, match="schema is 2, this program reads 1"):
        read_record("video:v", state(schema=2))
