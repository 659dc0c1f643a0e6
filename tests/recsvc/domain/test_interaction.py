import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.domain.interaction import (
    MAX_WEIGHT,
    PREFERENCE_WEIGHTS,
    Interaction,
    InteractionType,
    completion,
    value,
    weights,
)
from retrain.data.duckdb_session import statement
from retrain.data.kinds_table import kind_rows

UNKNOWN_LENGTH = -1


def did(kind: InteractionType, video_id: str = "v1", **fields: float) -> Interaction:
    return Interaction(video_id, kind, 0, int(fields.get("watch_ms", 0)), fields.get("rating"))


def weight(*done: Interaction) -> float:
    return weights(done, [UNKNOWN_LENGTH] * len(done)).get("v1", 0.0)


def test_serving_and_training_read_the_same_meaning_into_interactions() -> None:
    with duckdb.connect() as connection:
        connection.execute(statement("kinds"), {"kinds": kind_rows()})
        rows = connection.execute("SELECT name, value, watched, takes_back FROM kinds").fetchall()

    trained: dict[str, object] = {
        name: (pytest.approx(float(worth)), pytest.approx(float(watched)), back) for name, worth, watched, back in rows
    }
    served: dict[str, object] = {str(kind): meaning[:3] for kind, meaning in PREFERENCE_WEIGHTS.items()}
    assert served == trained


@pytest.mark.parametrize(
    ("watch_ms", "duration_ms", "share"),
    [(0, 1000, 0), (500, 1000, 0.5), (2000, 1000, 1), (9000, 60_000, 0.5), (9000, -1, 0.5), (9000, 0, 0.5)],
)
def test_completion_is_of_the_video_or_its_first_eighteen_seconds(
    watch_ms: int, duration_ms: int, share: float
) -> None:
    assert completion(watch_ms, duration_ms) == share


@pytest.mark.parametrize(
    ("one", "worth"),
    [
        (did(InteractionType.IMPRESSION), 0),
        (did(InteractionType.SKIP), 0),
        (did(InteractionType.WATCH), 0.3),
        (did(InteractionType.WATCH, watch_ms=18_000), 1),
        (did(InteractionType.LIKE), 1),
        (did(InteractionType.HIDE), -0.3),
        (did(InteractionType.RATING), 0),
        (did(InteractionType.RATING, rating=0), -1),
        (did(InteractionType.RATING, rating=5), 1),
    ],
)
def test_what_an_interaction_says(one: Interaction, worth: float) -> None:
    assert value(one, UNKNOWN_LENGTH) == pytest.approx(worth)


def test_what_was_taken_back_does_not_count() -> None:
    assert weight(did(InteractionType.LIKE), did(InteractionType.SHARE), did(InteractionType.UNLIKE)) == 0
    assert weight(did(InteractionType.UNLIKE), did(InteractionType.LIKE)) == 1
    assert weight(did(InteractionType.LIKE), did(InteractionType.HIDE)) == pytest.approx(-0.3)
    assert weight(did(InteractionType.HIDE, "v2"), did(InteractionType.LIKE)) == 1


@given(st.lists(st.sampled_from([*InteractionType]), max_size=50))
def test_one_video_never_weighs_more_than_training_lets_it(kinds: list[InteractionType]) -> None:
    assert -1 <= weight(*(did(kind, watch_ms=60_000) for kind in kinds)) <= MAX_WEIGHT
