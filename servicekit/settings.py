"""Settings of a program, read once from the environment.

A program declares one frozen subclass of `Settings`; each field's description is its documentation.
Secrets may stand in files: `NAME_FILE=/path` gives `NAME`.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from servicekit.logs import drain_logs

USAGE_ERROR = 2
"""Exit status of a program that was started with wrong settings, as of a wrong command line."""


class Settings(BaseSettings):
    """Base of each program's settings: frozen, upper-case environment names, unknown fields refused."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True, secrets_dir=None)

    @classmethod
    def load(cls) -> Self:
        """Read the environment, or end the program with one line for each wrong variable."""
        try:
            secrets = _read_secret_files(os.environ, {name.upper() for name in cls.model_fields})
            try:
                os.environ.update(secrets)
                return cls()
            finally:  # a child process reads what the file holds when it starts
                for name in secrets:
                    del os.environ[name]
        except ValidationError as error:
            fail(*(f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()))
        except (OSError, ValueError) as error:
            fail(str(error))

    @classmethod
    def describe(cls) -> str:
        """Return one line for each variable: name, meaning, default."""
        return "\n".join(f"  {name:34} {meaning} ({default})" for name, meaning, default in cls._rows())

    @classmethod
    def table(cls) -> str:
        """Return the same as a Markdown table."""
        rows = [f"| `{name}` | {meaning} | {default} |" for name, meaning, default in cls._rows()]
        return "\n".join(["| variable | meaning | default |", "|---|---|---|", *rows])

    @classmethod
    def _rows(cls) -> list[tuple[str, str, str]]:
        return [(name.upper(), field.description or "", _default(field)) for name, field in cls.model_fields.items()]


def fail(*problems: str, status: int = USAGE_ERROR) -> NoReturn:
    """End the program with one line for each problem and no stack trace."""
    drain_logs()  # what people read last is why it ended
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    raise SystemExit(status)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory:
        return "by the machine"
    if field.default is None:
        return "optional"
    # A sequence is given as JSON.
    return f"default {json.dumps(field.default) if isinstance(field.default, tuple) else field.default}"


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"


def secret_file(name: str) -> Path | None:
    """Return the file that a secret comes from, None where the environment holds the secret itself, or neither."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path) if path and not os.environ.get(name) else None


def secret_now(name: str, known: str) -> str:
    """Return a secret as its file holds it now; as it is known where no file does, or it cannot be read."""
    path = secret_file(name)
    try:
        text = path.read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError):
        return known
    return text or known


def _read_secret_files(environment: Mapping[str, str], names: set[str]) -> dict[str, str]:
    secrets = {}
    for name in sorted(names):
        path = environment.get(f"{name}_FILE")
        if path and not environment.get(name):
            try:
                secrets[name] = Path(path).read_text(encoding="utf-8").strip()
            except UnicodeDecodeError:
                raise ValueError(f"{name}_FILE: {path} is not UTF-8") from None
    return secrets
