import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.interactions import MEANINGS, MOST_WEIGHT, Interaction, Kind, completion, value, weights
from retrain.warehouse import statement

UNKNOWN_LENGTH = -1


def did(kind: Kind, video_id: str = "v1", **fields: float) -> Interaction:
    return Interaction(video_id, kind, 0, int(fields.get("watch_ms", 0)), fields.get("rating"))


def weight(*done: Interaction) -> float:
    return weights(done, [UNKNOWN_LENGTH] * len(done)).get("v1", 0.0)


def test_serving_and_training_read_the_same_meaning_into_interactions() -> None:
    with duckdb.connect() as connection:
        connection.execute(statement("kinds"))
        rows = connection.execute("SELECT name, value, watched, takes_back FROM kinds").fetchall()

    trained: dict[str, object] = {
        name: (pytest.approx(float(worth)), pytest.approx(float(watched)), back) for name, worth, watched, back in rows
    }
    served: dict[str, object] = {str(kind): meaning[:3] for kind, meaning in MEANINGS.items()}
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
        (did(Kind.IMPRESSION), 0),
        (did(Kind.SKIP), 0),
        (did(Kind.WATCH), 0.3),
        (did(Kind.WATCH, watch_ms=18_000), 1),
        (did(Kind.LIKE), 1),
        (did(Kind.HIDE), -0.3),
        (did(Kind.RATING), 0),
        (did(Kind.RATING, rating=0), -1),
        (did(Kind.RATING, rating=5), 1),
    ],
)
def test_what_an_interaction_says(one: Interaction, worth: float) -> None:
    assert value(one, UNKNOWN_LENGTH) == pytest.approx(worth)


def test_what_was_taken_back_does_not_count() -> None:
    assert weight(did(Kind.LIKE), did(Kind.SHARE), did(Kind.UNLIKE)) == 0
    assert weight(did(Kind.UNLIKE), did(Kind.LIKE)) == 1
    assert weight(did(Kind.LIKE), did(Kind.HIDE)) == pytest.approx(-0.3)
    assert weight(did(Kind.HIDE, "v2"), did(Kind.LIKE)) == 1


@given(st.lists(st.sampled_from([*Kind]), max_size=50))
def test_one_video_never_weighs_more_than_training_lets_it(kinds: list[Kind]) -> None:
    assert -1 <= weight(*(did(kind, watch_ms=60_000) for kind in kinds)) <= MOST_WEIGHT
