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
