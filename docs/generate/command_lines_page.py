"""Generates the page of the command lines from the output of `--help`."""

import os
import re
import subprocess
import sys
from typing import Final

from docs.generate import markdown, source

INTRODUCTION = """What each program prints with `--help`. Settings come from the environment: see
[settings](settings.md). Run the commands in the environment that `make` sets up: `.venv/bin/python -m …`."""

PROGRAMS: Final = ("recsvc", "bridge", "retrain")


def text() -> str:
    """Return the text of the page."""
    parts = []
    for program in PROGRAMS:
        whole = _help(program)
        parts.append(_section(program, whole))
        parts += [_section(f"{program} {command}", _help(program, command)) for command in _commands(whole)]
    return markdown.page("Command lines", INTRODUCTION, *parts)


def _section(title: str, printed: str) -> str:
    return f"## {title}\n\n```text\n{printed}\n```"


def _help(program: str, *command: str) -> str:
    environment = os.environ | {"COLUMNS": "100"}
    printed = subprocess.run(
        [sys.executable, "-m", program, *command, "--help"],
        cwd=source.ROOT, env=environment, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return re.split(r"\n\s*environment", printed)[0].rstrip()  # the settings have a page of their own


def _commands(printed: str) -> list[str]:
    """Return the subcommands that a help text lists."""
    names = re.search(r"^  {([\w,-]+)}$", printed, re.MULTILINE)
    return names[1].split(",") if names else []
