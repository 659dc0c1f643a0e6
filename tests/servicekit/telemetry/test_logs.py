"""Log lines are JSON for machines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = """
import structlog
from servicekit.telemetry.logs import configure_logs
configure_logs("info", service="example")
logger = structlog.get_logger()
logger.debug("not.shown")
logger.info("model.live", version="v1")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("rpc.defect")
"""

NO_READER: Final = """
import os, sys, structlog
from servicekit.telemetry.logs import configure_logs
sys.stdin.read()
configure_logs("info", service="example")
for _ in range(3):
    structlog.get_logger().info("model.live")
print("went on", flush=True)
os._exit(0)
"""


def events() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_events_are_json_with_level_time_and_service() -> None:
    event, defect = events()
    assert (event["event"], event["level"], event["service"], event["version"]) == (
        "model.live",
        "info",
        "example",
        "v1",
    )
    assert event["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in defect["exception"]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    command = [sys.executable, "-c", NO_READER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stderr.close()
        process.stdin.close()
        assert process.stdout.read() == "went on\n"
    assert process.returncode == 0


IN_A_CONTEXT: Final = """
import contextvars, logging, structlog
from servicekit.telemetry.logs import configure_logs
configure_logs("info", service="example")
contextvars.Context().run(structlog.get_logger().info, "model.live")
logging.getLogger("grpc").warning("a library's %s", "line")
"""


def logged(program: str, **environment: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_names_the_service() -> None:
    """Also those of handlers, which run in a context of their own, and those of libraries."""
    handlers, librarys = logged(IN_A_CONTEXT)
    assert (handlers["event"], handlers["service"]) == ("model.live", "example")
    assert (librarys["event"], librarys["service"], librarys["level"]) == ("a library's line", "example", "warning")
    assert {event["service"] for event in logged(IN_A_CONTEXT, DD_SERVICE="feed")} == {"feed"}


FULL_PIPE: Final = """
import structlog
from servicekit.telemetry.logs import configure_logs, lost_lines
configure_logs("info", service="example")
for number in range(20_000):
    structlog.get_logger().info("model.live", number=number, filler="x" * 1000)
print(lost_lines(), flush=True)
"""


def test_a_pipe_that_nobody_empties_stops_nothing_and_says_what_it_cost() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", FULL_PIPE], cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stderr
        lost = int(process.stdout.readline())  # it came through, though nobody reads the other pipe
        events = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert process.returncode == 0
    assert lost > 0
    assert len([event for event in events if event["event"] == "model.live"]) == 20_000 - lost
    assert sum(event["lines"] for event in events if event["event"] == "logs.lost") == lost


NEVER_READ: Final = """
import os, sys, threading, structlog
from servicekit.telemetry.logs import configure_logs
configure_logs("info", service="example")
for _ in range(1_000):
    structlog.get_logger().info("model.live", filler="x" * 1000)
"""


def test_a_program_ends_though_its_last_lines_find_no_reader() -> None:
    with subprocess.Popen([sys.executable, "-c", NEVER_READ], cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 0
