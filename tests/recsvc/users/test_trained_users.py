import gc
import weakref

import pytest

from recsvc.domain.user import COLD, trained_user
from recsvc.users import trained_users
from recsvc.users.trained_users import TrainedUsers
from tests.recsvc.support.models import random_model


def test_users_are_as_each_model_knows_them() -> None:
    users, models = TrainedUsers(), [random_model(seed) for seed in (1, 2)]

    for model in (*models, *models):
        for name in ("u1", "u2", "u1"):
            found, expected = users.get(model, name), trained_user(model, name)
            assert (found.state, found.bias, found.row) == (expected.state, expected.bias, expected.row)
            assert (found.vector is None) == (expected.vector is None)
            assert found.seen.tolist() == expected.seen.tolist()
        assert users.get(model, "nobody") is COLD


def test_who_comes_back_is_not_looked_for_again() -> None:
    users, model = TrainedUsers(), random_model(1)

    assert users.get(model, "u1") is users.get(model, "u1")


def test_memory_is_bounded_and_strangers_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_users, "MAX_KEPT", 5)
    users, model = TrainedUsers(), random_model(1)
    for number in range(12):
        users.get(model, f"u{number}")
        users.get(model, f"stranger-{number}")

    assert [*users._kept[1]] == [f"u{number}" for number in range(7, 12)]


def test_a_model_that_is_not_served_any_more_is_let_go() -> None:
    users, model = TrainedUsers(), random_model(1)
    users.get(model, "u1")
    before = weakref.ref(model.user_factors)

    users.get(random_model(2), "u1")
    del model
    gc.collect()

    assert before() is None
