"""Configures logs: one event with fields a line, JSON for machines, colours for a terminal; one line a state change.

Who logs never waits: a pipe that nobody empties would stop the event loop, or every thread that has something to say.
"""

import io
import json
import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import structlog

from servicekit.telemetry.line_writer import LineWriter

LogLevel = Literal["debug", "info", "warning", "error"]

_writers: Final[dict[int, LineWriter]] = {}
"""By file descriptor: one for a process, however often logging is set up."""


def configure_logs(level: LogLevel, *, service: str) -> None:
    """Set up logging of the whole process, once, before the first event."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    name = service_name(service)

    def with_service(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # Not a context variable: what runs in a context of its own, as handlers do, would not see it.
        event.setdefault("service", name)
        return event

    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        with_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]  # no locals: they hold secrets
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    stream = _stream(name)
    structlog.configure(
        processors=[*common, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type]  # all it uses
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler])


def service_name(program: str) -> str:
    """Return a program's name for logs and metrics: DD_SERVICE, else its own."""
    return os.environ.get("DD_SERVICE") or program


def drain_logs() -> None:
    """Wait, up to a bound, until the log is written: another output follows, or the program ends."""
    for writer in _writers.values():
        writer.drain()


def lost_lines() -> int:
    """Return the number of lines of this process that found no room or could not be written."""
    return sum(writer.lost for writer in _writers.values())


def _stream(service: str) -> "LineWriter | _Lossy":
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError, io.UnsupportedOperation):  # no file is behind it
        return _Lossy(sys.stderr)

    def lost(lines: int) -> str:
        event = {"lines": lines, "event": "logs.lost", "service": service, "level": "warning"}
        return json.dumps(event | {"timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}) + "\n"

    if descriptor not in _writers:
        _writers[descriptor] = LineWriter(descriptor, lost)
    return _writers[descriptor]


class _Lossy:
    """A stream that loses a line rather than raise when it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()
