"""Reads numbers from outside: finite, within bounds, and large enough to count with.

`float` takes `nan`, `inf`, `1e400` and `5e-324`. The first three poison every sum that they enter, and the last one
underflows in products, which Postgres refuses. So whatever comes from a caller, a file, a header or a setting passes
here, and nothing else in this project calls `float` on a text.
"""

import math
from typing import Final

SMALLEST: Final = 1e-30
"""The least magnitude besides 0: products of several such numbers and of weights stay far above the least double."""
LARGEST: Final = 1e30
"""The largest magnitude: squares and sums of such numbers stay far below the largest single-precision float."""


def finite(value: float, *, least: float = -LARGEST, most: float = LARGEST) -> float:
    """Return the number as a float, 0 if its products would underflow.

    Args:
        value: A number; not a bool.
        least: Its lower bound.
        most: Its upper bound.

    Raises:
        ValueError: It is no finite number from `least` to `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004  # callers catch what odd values raise, which is this
    if not least <= value <= most:  # neither holds for nan
        raise ValueError(f"{value!r} is not from {least:g} to {most:g}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number if abs(number) >= SMALLEST else 0.0


def read_number(text: str | bytes, *, least: float = -LARGEST, most: float = LARGEST) -> float:
    """Return the number that a text writes in decimal; ValueError for any other text, as `finite` does."""
    if isinstance(text, bytes):
        text = text.decode("ascii")  # UnicodeDecodeError is a ValueError
    if not text.isascii() or "_" in text:  # float would take other digits and underscores
        raise ValueError(f"{text!r} is no decimal number")
    return finite(float(text), least=least, most=most)
