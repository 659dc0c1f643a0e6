"""Sizes and times of benchmarks that a variable changes, read with bounds as settings are."""

import os
from argparse import ArgumentTypeError

from servicekit.configuration import arguments
from servicekit.configuration.settings import fail
from servicekit.inputs.numbers import read_number


def number(name: str, default: float, *, least: float = 0.01, most: float = 1e6) -> float:
    """Return a variable's number, or the default where it is not set; one line ends the program for any other text."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return read_number(text, least=least, most=most)
    except ValueError as error:
        fail(f"{name}: {error}")


def whole(name: str, default: int, *, least: int = 1, most: int = 10**9) -> int:
    """Return the same of a whole number."""
    return wholes(name, (default,), least=least, most=most)[0]


def wholes(name: str, default: tuple[int, ...], *, least: int = 1, most: int = 10**9) -> tuple[int, ...]:
    """Return the same of several with commas between."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return tuple(map(arguments.whole(least, most), text.split(",")))
    except ArgumentTypeError as error:
        fail(f"{name}: {error}")
