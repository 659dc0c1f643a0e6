"""What analysts see of runs, in Snowflake's protocol with the real connector."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from retrain.run_log.row import RunRow, State
from retrain.run_log.snowflake import log_runs
from retrain.run_log.store import FileRuns
from tests.retrain.support.command import retrain, where
from tests.retrain.support.feeds import row as event
from tests.retrain.support.feeds import write_day
from tests.support.dogstatsd import DogStatsdServer
from tests.support.snowflake import Snowflake, snowflake_server

pytestmark = pytest.mark.process

NOW = datetime(2026, 3, 5, 2, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Snowflake]:
    with snowflake_server() as server:
        yield server


def run(state: State, *, minutes: int, reason: str | None = None, message: str | None = None) -> RunRow:
    begin = NOW + timedelta(minutes=minutes)
    return RunRow(
        run_id=uuid4(),
        state=state,
        started_at=begin,
        heartbeat_at=begin,
        ended_at=begin,
        interactions=None if state is State.FAILED else 12_345,
        reason=reason,
        message=message,
    )


def test_every_end_is_written_once_whatever_is_tried_again(snowflake: Snowflake, tmp_path: Path) -> None:
    runs = FileRuns(tmp_path)
    rows = [
        run(State.SUCCEEDED, minutes=0),
        run(State.REJECTED, minutes=1, reason="quality", message='5 % worse: it\'s "bad"'),
        run(State.FAILED, minutes=2, reason="store", message="no disk"),
    ]
    for one in rows:
        runs.save(one)
    assert log_runs(snowflake.account, runs, lambda: NOW)
    assert runs.unlogged() == []
    for one in rows:  # as if the process had died before it noted that they were written
        runs.save(one)
    assert log_runs(snowflake.account, runs, lambda: NOW)
    begin = NOW.replace(tzinfo=None)
    assert snowflake.rows() == [
        ("lightfm-retrain", "succeeded", begin, 12_345, None),
        ("lightfm-retrain", "rejected", begin + timedelta(minutes=1), 12_345, 'quality: 5 % worse: it\'s "bad"'),
        ("lightfm-retrain", "failed", begin + timedelta(minutes=2), None, "store: no disk"),
    ]


def test_runs_wait_while_snowflake_is_away(tmp_path: Path, dogstatsd: DogStatsdServer) -> None:
    """A run succeeds without it and a failed one fails for its own reason; the next one brings all three."""
    for day in ("2026-03-01", "2026-03-02"):
        rows = [event(f"u{user}", f"v{user}-{day}", "like", 0, f"{day}T10:00:00Z") for user in range(9)]
        write_day(tmp_path / "exports", day, rows)
    with snowflake_server() as server:
        environment = where(tmp_path, tmp_path / "exports") | server.environment
        environment |= {"DD_AGENT_HOST": dogstatsd.host, "DD_DOGSTATSD_PORT": str(dogstatsd.port)}
        server.stop()
        assert retrain("run", "--date", "2026-03-01", **environment).returncode == 0
        assert retrain("run", "--date", "2026-03-03", **environment).returncode == 2
        dogstatsd.wait("feed.lightfm.retrain.logged")
        assert {value for one in dogstatsd.packets("feed.lightfm.retrain.logged") for value in one.values} == {0.0}
        server.start()
        done = retrain("run", "--date", "2026-03-02", **environment)
        assert done.returncode == 0, done.stderr
        found = [(status, interactions, error) for _, status, _, interactions, error in server.rows()]
    assert [status for status, *_ in found] == ["succeeded", "failed", "succeeded"]
    assert [interactions for _, interactions, _ in found] == [9, None, 18]
    assert "holds no day 2026-03-03" in found[1][2]


def test_a_server_that_is_away_is_one_line_in_the_log(snowflake: Snowflake, tmp_path: Path) -> None:
    runs = FileRuns(tmp_path)
    runs.save(run(State.SUCCEEDED, minutes=9))
    snowflake.stop()
    with capture_logs() as logs:
        assert not log_runs(snowflake.account, runs, lambda: NOW)
    snowflake.start()
    (line,) = logs
    assert line["waiting"] == 1
    assert "\n" not in line["problem"]
    assert "snow'" not in line["problem"]
