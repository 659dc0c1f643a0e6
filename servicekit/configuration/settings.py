"""Reads the settings of a program, once, from the environment.

A program declares one frozen subclass of `Settings`; each field's description is its documentation.
Secrets may stand in files: `NAME_FILE=/path` gives `NAME`.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from servicekit.configuration.setting_names import Findings, unknown_settings
from servicekit.configuration.setting_types import Formerly, InFile
from servicekit.telemetry.logs import drain_logs

USAGE_ERROR = 2
"""Exit status of a program that was started with wrong settings, as of a wrong command line."""


class Settings(BaseSettings):
    """Base of each program's settings: frozen, upper-case environment names, unknown names refused."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True, secrets_dir=None)

    unknown_settings: Literal["refuse", "warn"] = Field(
        "refuse", description="treatment of variables that look like settings and are none: refuse or warn"
    )

    @classmethod
    def load(cls, *, warn: bool = True) -> Self:
        """Read the environment, or end the program with one line for each wrong variable.

        Args:
            warn: Whether to tell what is odd but works; not for a process whose parent has told it.
        """
        try:
            findings, secrets = _prepared(cls)
            try:
                os.environ.update(secrets)
                settings = cls()
            finally:  # a child process reads what the file holds when it starts
                for name in secrets:
                    del os.environ[name]
        except ValidationError as error:
            fail(*dict.fromkeys(f"{_variable(one['loc'])}: {_told(one['msg'])}" for one in error.errors()))
        except (OSError, ValueError) as error:
            fail(str(error))
        if findings.errors and settings.unknown_settings == "refuse":
            fail(*findings.errors)
        for line in (*findings.errors, *findings.warnings) if warn else ():
            sys.stderr.write(f"warning: {line}\n")
        return settings

    @classmethod
    def describe(cls) -> str:
        """Return one line for each variable: name, meaning, default."""
        return "\n".join(f"  {name:34} {meaning} ({default})" for name, meaning, default in cls._rows())

    @classmethod
    def table(cls) -> str:
        """Return the description as a Markdown table."""
        rows = [f"| `{name}` | {meaning} | {default} |" for name, meaning, default in cls._rows()]
        return "\n".join(["| variable | meaning | default |", "|---|---|---|", *rows])

    @classmethod
    def _rows(cls) -> list[tuple[str, str, str]]:
        own = {name: field for name, field in cls.model_fields.items() if name not in Settings.model_fields}
        fields = own | Settings.model_fields  # what all programs have comes last
        return [(name.upper(), field.description or "", _default(field)) for name, field in fields.items()]


def refuse_unknown_settings() -> None:
    """End a program that only starts others if the environment holds settings that those would refuse."""
    findings = unknown_settings(os.environ)
    if findings.errors and os.environ.get("UNKNOWN_SETTINGS") != "warn":
        fail(*findings.errors)


def fail(*problems: str, status: int = USAGE_ERROR) -> NoReturn:
    """End the program with one line for each problem and no stack trace."""
    drain_logs()  # what people read last is why it ended
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    raise SystemExit(status)


def former_names(settings: type[Settings]) -> dict[str, str]:
    """Return the present name of each former one, both in upper case."""
    return {
        mark.name: name.upper()
        for name, field in settings.model_fields.items()
        for mark in _marks(field)
        if isinstance(mark, Formerly)
    }


def _marks(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for part in get_args(field.annotation):  # of `Annotated[...] | None`
        yield from getattr(part, "__metadata__", ())


def _prepared(settings: type[Settings]) -> tuple[Findings, dict[str, str]]:
    """Rename former names; return the other variables of the environment, and the values of files."""
    names = {name.upper(): field for name, field in settings.model_fields.items()}
    former = former_names(settings)
    findings = unknown_settings(os.environ, {*names, *former})
    for old, new in former.items():
        for end in ("", "_FILE"):
            _rename(old + end, new, end, findings)
    files = {name: _read_file(name, names[name], findings) for name in sorted(names)}
    return findings, {name: text for name, text in files.items() if text}


def _rename(old: str, new: str, end: str, findings: Findings) -> None:
    value = os.environ.pop(old, "")
    if not value:
        return
    if os.environ.get(new) or os.environ.get(f"{new}_FILE"):
        findings.warnings.append(f"{old} is ignored, as its new name {new} is set as well")
    else:
        os.environ[new + end] = value
        findings.warnings.append(f"{old} is now called {new}{end}; the former name will go")


def _read_file(name: str, field: FieldInfo, findings: Findings) -> str:
    """Return the content of a setting's file, empty if it has none."""
    variable = f"{name}_FILE"
    path = os.environ.get(variable)
    if not path:
        return ""
    if os.environ.get(name):
        findings.warnings.append(f"{variable} is ignored, as {name} is set as well")
        return ""
    if not _belongs_in_a_file(field):
        findings.warnings.append(f"{variable} is read, but {name} is no secret: it may be set itself")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{variable}: {path} is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"{variable}: {error}") from None
    if not text:
        raise ValueError(f"{variable}: {path} is empty")
    return text


def _belongs_in_a_file(field: FieldInfo) -> bool:
    secret = SecretStr in (field.annotation, *get_args(field.annotation)) or any(
        getattr(part, "__origin__", None) is SecretStr for part in get_args(field.annotation)
    )
    return secret or any(isinstance(mark, InFile) for mark in _marks(field))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory:
        return "by the machine"
    if field.default is None:
        return "optional"
    # As the environment would give it: sequences and truth values are JSON.
    return f"default {json.dumps(field.default) if isinstance(field.default, tuple | bool) else field.default}"


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"


def _told(message: str) -> str:
    return message.removeprefix("Value error, ")


def secret_file(name: str) -> Path | None:
    """Return the file of a secret, None if the environment holds the secret itself, or neither."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path) if path and not os.environ.get(name) else None


def secret_now(name: str, known: str) -> str:
    """Return the present content of a secret's file; the known value if there is no file, or it cannot be read."""
    path = secret_file(name)
    try:
        text = path.read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError):
        return known
    return text or known
