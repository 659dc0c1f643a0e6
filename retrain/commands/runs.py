"""Defines the commands around runs: the schedule, the last runs, old versions."""

import argparse
import sys
from contextlib import closing
from datetime import UTC, datetime

from retrain.exit_status import FAILED
from retrain.settings import RetrainSettings, StoreSettings
from servicekit.configuration.arguments import whole
from servicekit.configuration.command_line import CommandLine
from servicekit.process.termination import thread_termination
from servicekit.storage.object_store import open_store
from servicekit.telemetry.logs import configure_logs
from servicekit.telemetry.metrics import connect_metrics


def add(commands: CommandLine) -> None:
    """Add the commands to the program's."""
    schedule = commands.add("schedule", "run each night at 02:00 UTC, missed days first", _schedule, RetrainSettings)
    schedule.add_argument("--once", action="store_true", help="run the due days now, and end")
    status = commands.add("status", "list the last runs", _status, RetrainSettings)
    status.add_argument(
        "--count", type=whole(1, 10_000), default=10, metavar="N", help="number of runs to show (default: 10)"
    )
    prune = commands.add("prune", "remove old versions, never what is live or its parent", _prune, StoreSettings)
    prune.add_argument("--dry-run", action="store_true", help="name the versions that would be removed, and stop")


def _schedule(options: argparse.Namespace) -> int:
    settings = RetrainSettings.load()
    configure_logs(settings.log_level, service="retrain")
    from retrain.scheduling.nightly import Nightly  # noqa: PLC0415  # imports DuckDB

    stopping = thread_termination()
    with closing(connect_metrics(settings.dd_agent_host, settings.dd_dogstatsd_port, service="retrain")) as metrics:
        schedule = Nightly.of(settings, metrics).schedule(stopping)
        if options.once:
            return schedule.once()
        schedule.serve()
    return 0


def _status(options: argparse.Namespace) -> int:
    settings = RetrainSettings.load()
    from retrain.commands.status import status_table  # noqa: PLC0415
    from retrain.errors import RunError  # noqa: PLC0415
    from retrain.run_log.store import open_runs  # noqa: PLC0415  # imports psycopg

    try:
        print(status_table(open_runs(settings).recent(options.count), datetime.now(UTC)))  # noqa: T201  # the output
    except (RunError, OSError) as failure:
        sys.stderr.write(f"error: {failure}\n")
        return FAILED
    return 0


def _prune(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    configure_logs("warning", service="retrain")
    from retrain.errors import RunError  # noqa: PLC0415
    from retrain.publishing.prune import plan_pruning, prune  # noqa: PLC0415
    from retrain.scheduling.tracked_run import store_failures  # noqa: PLC0415  # imports boto3

    act = plan_pruning if options.dry_run else prune
    try:
        with store_failures():
            done = act(open_store(settings.model_store_url), keep=settings.model_versions_kept, now=datetime.now(UTC))
    except RunError as failure:
        sys.stderr.write(f"error: {failure}\n")
        return FAILED
    for version in done.removed:
        print(f"{'would remove' if options.dry_run else 'removed'} {version}")  # noqa: T201  # the output
    print(f"{len(done.kept)} versions kept")  # noqa: T201  # the output
    return 0
