import json

import pytest

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.follower.topics.message import MAX_BYTES, MalformedError, read_interaction
from tests.recsvc.support.directories import CUT_OFF_MS

LATER_MS = CUT_OFF_MS + 60_000
GOOD = {
    "userId": "u1",
    "videoId": "v1",
    "interactionType": "watch",
    "watchTime": 1200,
    "timestamp": "2025-09-02T00:01:00.000Z",
}


def test_a_message_is_an_interaction() -> None:
    assert read_interaction(json.dumps(GOOD).encode()) == (
        "u1",
        Interaction("v1", InteractionType.WATCH, LATER_MS, 1200),
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b'"text"',
        b"\xff",
        b"[" * 60_000,
        b'{"userId":' * 6_000,
        b"9" * 5_000,
        b'{"a":1}' + b" " * MAX_BYTES,
        *(json.dumps({name: given for name, given in GOOD.items() if name != missing}).encode() for missing in GOOD),
        *(
            json.dumps({**GOOD, **wrong}).encode()
            for wrong in (
                {"userId": ""},
                {"userId": 5},
                {"userId": True},
                {"userId": None},
                {"userId": ["u1"]},
                {"videoId": 1.5},
                {"watchTime": float("nan")},
                {"timestamp": "0001-01-01T00:00:00+23:59x"},
                {"videoId": "x" * 129},
                {"videoId": "\ud800"},
                {"interactionType": "dance"},
                {"interactionType": None},
                {"watchTime": -1},
                {"watchTime": 10**30},
                {"watchTime": 1.5},
                {"watchTime": True},
                {"watchTime": "9"},
                {"timestamp": "yesterday"},
                {"timestamp": "2025-09-02T00:01:00"},
                {"timestamp": 17},
            )
        ),
    ],
)
def test_a_malformed_message_is_told_apart(value: bytes | None) -> None:
    with pytest.raises(MalformedError):
        read_interaction(value)


def test_the_stars_of_a_rating_stand_in_a_header() -> None:
    rated = json.dumps({**GOOD, "interactionType": "rating"}).encode()

    assert read_interaction(rated, b"4.5")[1] == Interaction("v1", InteractionType.RATING, LATER_MS, 1200, 4.5)
    for wrong in (b"", b"many", b"-1", b"5.5", b"nan", b"\xff", b"1e400", b"1_0", "٣".encode()):
        with pytest.raises(MalformedError):
            read_interaction(rated, wrong)
