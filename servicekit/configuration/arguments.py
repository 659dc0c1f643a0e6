"""Parses values of command lines, for `argparse`'s `type`; errors name the option and the accepted values."""

import argparse
import math
from collections.abc import Callable
from typing import Final

from servicekit.configuration.setting_types import memory_size
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import LARGEST, read_number

MAX_DIGITS: Final = 18
"""More of them no count on a command line needs, and `int` takes long for thousands."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of integers in decimal from `least` to `most`."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > MAX_DIGITS:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return int(text)

    return read


def number(least: float = -LARGEST, most: float = LARGEST) -> Callable[[str], float]:
    """Return a parser of finite numbers from `least` to `most`."""
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError("a number without bounds may be none")

    def read(text: str) -> float:
        try:
            return read_number(text, least=least, most=most)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least:g} to {most:g}") from None

    return read


def identifier(text: str) -> str:
    """Return the identifier of a user or video; ArgumentTypeError for an invalid one."""
    if problem := identifier_problem(text):
        raise argparse.ArgumentTypeError(problem)
    return text


def memory(text: str) -> str:
    """Return an amount of memory, such as 2GiB."""
    try:
        return memory_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
