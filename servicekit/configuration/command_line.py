"""Defines a program's command line: its commands with options of their own, and the environment that each reads.

One without commands is its own only command. Where there are several and none is named, the default is meant.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from servicekit.configuration.settings import Settings

Command = Callable[[argparse.Namespace], int]
"""Does what a command line asks for, and returns the exit status."""


class CommandLine:
    """The command line of one program.

    Args:
        program: Its package, which is started by `python -m`.
        text: What it does, in a sentence.
        settings: What it reads from the environment; of the default command where there are several.
        default: The command that is meant where none is named; None where the program has no commands.
    """

    def __init__(self, program: str, text: str, settings: type[Settings], *, default: str | None = None) -> None:
        self._default = default
        self._parser = argparse.ArgumentParser(
            prog=f"python -m {program}",
            description=text,
            epilog=_environment(settings, f" of {default}" if default else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._commands: Any = self._parser.add_subparsers(title="commands", required=True) if default else None

    def add(
        self,
        name: str,
        text: str,
        command: Command,
        settings: type[Settings] | None = None,
        *,
        epilog: str = "",
    ) -> argparse.ArgumentParser:
        """Add a command and return its parser, for its options.

        Args:
            name: Of the command.
            text: What it does, in a line.
            command: Does it.
            settings: What it reads from the environment, None for nothing.
            epilog: Stands at the end of its help, before the environment.
        """
        parser: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="\n\n".join(part for part in (epilog, _environment(settings)) if part),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=command)
        return parser

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed options; end the program if one is wrong, or if help was asked for."""
        named = bool(arguments) and (not arguments[0].startswith("-") or arguments[0] in ("-h", "--help"))
        return self._parser.parse_args(arguments if named or not self._default else [self._default, *arguments])

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command of the options, and return the exit status."""
        options = self.parse(arguments)
        status: int = options.command(options)
        return status


def _environment(settings: type[Settings] | None, of: str = "") -> str:
    return f"environment{of}:\n{settings.describe()}" if settings else ""
