"""What one machine writes to the topic, another one reads."""

import json

from hypothesis import given
from hypothesis import strategies as st

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.follower.topics.message import MAX_UPDATE_BYTES, UPDATES, read_erasure, read_update
from recsvc.live_state.profile import MAX_WATCH_MS
from recsvc.profile_updates.message import TOPIC, erasure_message, update_message
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import finite

YEAR_1_MS, YEAR_9999_MS = -62_135_596_800_000, 253_402_300_799_999
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda one: not identifier_problem(one)
)
TIMES = st.integers(YEAR_1_MS, YEAR_9999_MS)
INTERACTIONS = st.builds(
    Interaction,
    IDS,
    st.sampled_from(InteractionType),
    TIMES,
    st.integers(0, 2**63 - 1),
    st.none() | st.floats(0, 5).map(finite),
)


@given(IDS, st.lists(INTERACTIONS, min_size=1), TIMES)
def test_an_update_is_read_as_it_was_told(user_id: str, done: list[Interaction], told_ms: int) -> None:
    """But for watches of more than seven weeks, which count as seven."""
    message = update_message(user_id, done, told_ms=told_ms)

    told = read_update(message.key, message.value or b"")

    assert (told.user_id, told.told_ms, told.odd) == (user_id, told_ms, 0)
    assert told.interactions == [one._replace(watch_ms=min(one.watch_ms, MAX_WATCH_MS)) for one in done]
    assert TOPIC == UPDATES


@given(IDS, TIMES)
def test_an_erasure_is_read_as_it_was_told(user_id: str, at_ms: int) -> None:
    message = erasure_message(user_id, at_ms=at_ms)

    assert message.value is None
    ((name, erased_at),) = message.headers
    assert name == "erased-at"
    assert read_erasure(message.key, erased_at, (0, -1)) == (user_id, at_ms)


def test_an_update_has_exactly_these_fields() -> None:
    done = [
        Interaction("v1", InteractionType.WATCH, 1_756_771_200_123, 1200),
        Interaction("v2", InteractionType.RATING, -1, 0, 4.5),
    ]

    message = update_message("user", done, told_ms=1_756_771_260_000)

    assert (message.key, message.headers) == (b"user", [])
    assert json.loads(message.value or b"") == {
        "schema": 1,
        "toldAt": "2025-09-02T00:01:00.000Z",
        "interactions": [
            {
                "videoId": "v1",
                "interactionType": "watch",
                "watchTime": 1200,
                "timestamp": "2025-09-02T00:00:00.123Z",
            },
            {
                "videoId": "v2",
                "interactionType": "rating",
                "watchTime": 0,
                "timestamp": "1969-12-31T23:59:59.999Z",
                "rating": 4.5,
            },
        ],
    }


def test_the_longest_update_fits() -> None:
    """A thousand interactions with identifiers that JSON must escape, below what brokers take in one message."""
    done = [Interaction('"' * 128, InteractionType.COMPLETE, YEAR_1_MS, MAX_WATCH_MS, 1 / 3)] * 1000

    message = update_message('"' * 128, done, told_ms=0)

    assert len(message.value or b"") < min(MAX_UPDATE_BYTES, 1_000_000)
