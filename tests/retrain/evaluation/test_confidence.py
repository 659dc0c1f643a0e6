import numpy as np
import pytest

from retrain.evaluation.confidence import MAX_VALUES, interval


@pytest.mark.parametrize("count", [MAX_VALUES - 1, MAX_VALUES + 1, 3 * MAX_VALUES + 17, 30_000])
def test_interval_is_as_wide_as_chance(count: int) -> None:
    """Also of many values: 1.96 standard errors on either side, the textbook's interval of a mean."""
    values = np.maximum(0, np.random.default_rng(3).normal(0, 0.2, count))
    found, error = interval(values, seed=1), 1.96 * values.std() / np.sqrt(count)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.2 * error)


def test_interval_of_equal_values_is_a_point() -> None:
    found = interval(np.full(5000, 0.25), seed=1)
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
