"""Log lines are JSON for machines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = """
import structlog
from servicekit.logs import configure_logs
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
from servicekit.logs import configure_logs
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
