"""Values of command lines are bounded, and refused in words."""

import argparse
import math
from collections.abc import Callable
from typing import Any

import pytest

from servicekit.configuration.arguments import identifier, memory, number, whole


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("10", 10), ("007", 7)])
def test_a_count_within_bounds(text: str, value: int) -> None:
    assert whole(1, 10)(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "11", "1.0", "1e1", "x", "", "1_0", "٣", "9" * 5000, "nan", " 1"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        whole(1, 10)(text)


def test_a_number_within_bounds() -> None:
    assert number()("3.5") == 3.5


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "x", "", "1_0", "11"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        number(0, 10)(text)


def test_a_number_has_bounds() -> None:
    with pytest.raises(ValueError, match="without bounds"):
        number(0, math.inf)


@pytest.mark.parametrize(
    ("kind", "good", "bad"), [(identifier, "user-1", "a\0b"), (identifier, "ü", ""), (memory, "2GiB", "2 GiB")]
)
def test_texts(kind: Callable[[str], Any], good: str, bad: str) -> None:
    assert kind(good) == good
    with pytest.raises(argparse.ArgumentTypeError):
        kind(bad)
