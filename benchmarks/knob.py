"""Reads sizes and times of benchmarks from environment variables, with bounds as settings have."""

import os
from argparse import ArgumentTypeError

from servicekit.configuration import arguments
from servicekit.configuration.settings import fail
from servicekit.inputs.numbers import read_number


def number(name: str, default: float, *, least: float = 0.01, most: float = 1e6) -> float:
    """Return a variable's number, or the default if it is not set; end the program with one line for any other text."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return read_number(text, least=least, most=most)
    except ValueError as error:
        fail(f"{name}: {error}")


def whole(name: str, default: int, *, least: int = 1, most: int = 10**9) -> int:
    """Return a variable's whole number, as `number` does."""
    return wholes(name, (default,), least=least, most=most)[0]


def wholes(name: str, default: tuple[int, ...], *, least: int = 1, most: int = 10**9) -> tuple[int, ...]:
    """Return the whole numbers of a variable, which commas separate."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return tuple(map(arguments.whole(least, most), text.split(",")))
    except ArgumentTypeError as error:
        fail(f"{name}: {error}")
