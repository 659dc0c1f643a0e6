from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from modelstore.id_map import IdMap
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import COLD, User
from recsvc.model.serving_model import ServingModel
from recsvc.pages.explanations import MAX_REASONS, ReasonKind, Reasons
from recsvc.users.folded_user import folded
from tests.recsvc.support.models import csr, random_model

CATS, DOGS = (2.0, 0.0), (0.0, 2.0)


def serving(popularity: list[float]) -> ServingModel:
    """Return a model of v0..v3 about cats by `a0` and v4..v7 about dogs by `a1`; nobody was trained."""
    model = random_model(users=1, videos=8, dimensions=2)
    rows = np.array([0] * 4 + [1] * 4, np.int32)
    catalogue = replace(
        model.catalogue,
        authors=IdMap.build(["a0", "a1"]),
        author_rows=rows,
        tags=IdMap.build(["cats", "dogs"]),
        tag_rows=csr([[row] for row in rows.tolist()]),
        durations_ms=np.full(8, 10_000),
    )
    return ServingModel.of(
        replace(
            model,
            video_factors=np.array([CATS] * 4 + [DOGS] * 4, np.float32),
            video_biases=np.zeros(8, np.float32),
            popularity=np.array(popularity, np.float32),
            seen=csr([[]]),
            catalogue=catalogue,
        )
    )


EVEN = serving([1] * 8)


def user(*done: Interaction, model: ServingModel = EVEN) -> User:
    return folded(model, COLD, (), done)


def did(kind: InteractionType, video_id: str, watch_ms: int = 0) -> Interaction:
    return Interaction(video_id, kind, 0, watch_ms)


def test_a_page_for_a_cat_lover_is_explained_by_cats() -> None:
    reasons = Reasons(EVEN, user(did(InteractionType.LIKE, "v0"), did(InteractionType.WATCH, "v1", 9000))).of(2)

    told = {reason.kind: reason.text for reason in reasons}
    assert told[ReasonKind.SIMILAR_VIDEO] in ("Similar to v0, which you liked", "Similar to v1, which you watched long")
    assert told[ReasonKind.TAG] == "You often watch videos tagged cats"
    assert told[ReasonKind.AUTHOR] == "You often watch videos by a0"
    assert ReasonKind.TRENDING not in told
    assert sum(reason.weight for reason in reasons) == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (did(InteractionType.LIKE, "v0"), "which you liked"),
        (did(InteractionType.COMPLETE, "v0"), "which you watched to its end"),
        (did(InteractionType.WATCH, "v0", 8000), "which you watched long"),
        (did(InteractionType.WATCH, "v0", 7000), "which you watched"),
        (did(InteractionType.SHARE, "v0"), "which you shared"),
    ],
)
def test_the_words_say_what_the_user_did(one: Interaction, words: str) -> None:
    (reason, *_) = Reasons(EVEN, user(one)).of(1)

    assert (reason.kind, reason.text) == (ReasonKind.SIMILAR_VIDEO, f"Similar to v0, {words}")


def test_what_is_unlike_all_that_was_liked_is_not_called_similar() -> None:
    assert Reasons(EVEN, user(did(InteractionType.LIKE, "v0"))).of(5) == []


def test_what_was_hidden_is_no_reason() -> None:
    model_user = user(did(InteractionType.LIKE, "v0"), did(InteractionType.HIDE, "v1"))

    texts = [reason.text for row in range(8) for reason in Reasons(EVEN, model_user).of(row)]

    assert not any("v1" in text for text in texts)


def test_a_stranger_is_shown_what_many_watch() -> None:
    trending = serving([1000, 1, 1, 1, 1, 1, 1, 1])

    (reason,) = Reasons(trending, COLD).of(0)

    assert (reason.kind, reason.weight) == (ReasonKind.TRENDING, 1)
    assert Reasons(trending, COLD).of(3) == []


def test_taste_and_popularity_share_the_weight() -> None:
    trending = serving([1000, 1, 1, 1, 1, 1, 1, 1])

    reasons = Reasons(trending, user(did(InteractionType.LIKE, "v1"), model=trending)).of(0)

    assert {reason.kind for reason in reasons} == {ReasonKind.SIMILAR_VIDEO, ReasonKind.TRENDING}
    assert sum(reason.weight for reason in reasons) == pytest.approx(1)


@pytest.mark.parametrize("user_id", ["u0", "u5", "nobody"])
def test_reasons_are_few_sentences_with_shares(user_id: str) -> None:
    model = ServingModel.of(random_model(5))
    reasons = Reasons(model, model.user(user_id))

    for row in range(60):
        told = reasons.of(row)
        weights: NDArray[np.float64] = np.array([reason.weight for reason in told])
        assert len(told) <= MAX_REASONS
        assert weights.sum() <= 1 + 1e-9
        assert (np.diff(weights) <= 0).all()
        assert not any(reason.text.endswith(".") for reason in told)
