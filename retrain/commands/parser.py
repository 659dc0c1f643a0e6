"""A command of `python -m retrain`, with the environment that it reads in its help."""

import argparse
from collections.abc import Callable
from typing import Any

from servicekit.configuration.settings import Settings


def add_command(
    commands: Any,
    name: str,
    text: str,
    command: Callable[[argparse.Namespace], int],
    settings: type[Settings],
) -> argparse.ArgumentParser:
    """Add a command to a parser's commands, and return its own parser.

    Args:
        commands: Of `argparse.ArgumentParser.add_subparsers`.
        name: Of the command.
        text: What it does, in a line.
        command: Does it, and returns the exit status.
        settings: What it reads from the environment.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="environment:\n" + settings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser
