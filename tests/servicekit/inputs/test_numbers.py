"""Numbers from outside are finite, within bounds, and large enough to count with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.inputs.numbers import SMALLEST, finite, read_number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400, 1e31, -1e31, True])
def test_what_is_no_finite_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is"):
        finite(value)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e400", "", "1_0", "٣", "5 stars", b"\xff"])
def test_texts_of_no_finite_number_are_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_number(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0.0), ("4.5", 4.5), (b"1e3", 1000.0), ("5e-324", 0.0), ("-1e-31", 0.0)]
)
def test_numbers_are_read_and_tiny_ones_are_zero(text: str | bytes, number: float) -> None:
    assert read_number(text) == number


@given(st.floats())
def test_a_number_that_passes_can_be_counted_with(value: float) -> None:
    try:
        number = finite(value, least=0, most=5)
    except ValueError:
        return
    assert number == 0 or SMALLEST <= number <= 5
