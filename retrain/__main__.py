"""`python -m retrain`: train and publish a model, or simulate a feed to try it on."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from retrain.commands import forget, import_data, models, report, runs
from retrain.exit_status import BAD_INPUT, BUSY, FAILED, REJECTED, SIGNALLED
from retrain.settings import ExportSettings, RetrainSettings
from servicekit.configuration.arguments import whole
from servicekit.configuration.command_line import CommandLine
from servicekit.storage.object_store import open_store
from servicekit.telemetry.logs import configure_logs


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status; `run` is the one that is meant where none is named."""
    return _command_line().run(arguments)


def _command_line() -> CommandLine:
    commands = CommandLine(
        "retrain",
        "Train LightFM on exported interactions and publish the model that the servers load.",
        RetrainSettings,
        default="run",
    )
    run = commands.add("run", "train, evaluate and publish (the default)", _run, RetrainSettings)
    run.add_argument(
        "--date", type=date.fromisoformat, metavar="YYYY-MM-DD", help="last day to use (default: the newest)"
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan, check the files, and stop")
    run.add_argument("--again", action="store_true", help="train again on data that was trained on before")
    run.add_argument("--cold", action="store_true", help="fit from nothing, not from the last run's checkpoint")
    run.add_argument("--force", action="store_true", help="publish whatever the gate finds")
    models.add(commands)
    runs.add(commands)
    import_data.add(commands)
    report.add(commands)
    forget.add(commands)
    export = commands.add(
        "export", "write a day's interactions from Postgres, as run reads them", _export, ExportSettings
    )
    export.add_argument(
        "--date", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the day, UTC (default: yesterday)"
    )
    export.add_argument(
        "--catalogue", action="store_true", help="write the bridge's videos to CATALOGUE_URL/videos.parquet as well"
    )
    _add_simulate(commands)
    return commands


def _add_simulate(commands: CommandLine) -> None:
    simulate = commands.add("simulate", "write a SIMULATED feed, laid out as real exports are", _simulate)
    simulate.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for exports/ and videos.parquet"
    )
    for name, default, meaning in SIMULATED:
        simulate.add_argument(
            f"--{name}",
            type=whole(1, MAX_SIMULATED),
            default=default,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )
    simulate.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1),
        default=1,
        metavar="N",
        help="the same seed gives the same feed (default: 1)",
    )


MAX_SIMULATED: Final = 100_000_000
SIMULATED: Final = (
    ("users", 2000, "users"),
    ("videos", 1000, "videos"),
    ("days", 7, "days, the last of them yesterday (UTC)"),
    ("views", 8, "videos shown to a user a day, on average"),
)


def _run(options: argparse.Namespace) -> int:
    settings = RetrainSettings.load()
    configure_logs(settings.log_level, service="retrain")
    if options.cold:
        settings = settings.model_copy(update={"retrain_warm_start": False})
    # Read when numpy is imported. Training has threads of its own, which BLAS threads would fight with.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from retrain.errors import Reason, RunError  # noqa: PLC0415
    from retrain.scheduling.single_run import run_once  # noqa: PLC0415  # imports LightFM

    status = SIGNALLED

    def end(number: int, _: object) -> None:
        nonlocal status
        status = SIGNALLED + number
        sys.exit(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        run_once(settings, last=options.date, dry_run=options.dry_run, again=options.again, force=options.force)
    except KeyboardInterrupt:  # the signal came during a statement of DuckDB
        return status
    except RunError as failure:
        sys.stderr.write(f"error: {failure}\n")
        if failure.is_rejection:
            return REJECTED
        if failure.reason is Reason.BUSY:
            return BUSY
        return BAD_INPUT if failure.is_input else FAILED
    return 0


def _export(options: argparse.Namespace) -> int:
    settings = ExportSettings.load()
    configure_logs(settings.log_level, service="retrain")
    import psycopg  # noqa: PLC0415  # no other command needs it

    from retrain.data.export_catalogue import export_catalogue  # noqa: PLC0415  # imports pyarrow
    from retrain.data.export_day import DayNotOverError, export_day  # noqa: PLC0415  # likewise

    day = options.date or datetime.now(UTC).date() - timedelta(days=1)
    store = open_store(settings.interactions_url)
    if options.catalogue and settings.catalogue_url is None:
        sys.stderr.write("error: --catalogue needs CATALOGUE_URL\n")
        return BAD_INPUT
    try:
        done = export_day(settings.database_url.get_secret_value(), store, day)
        if options.catalogue and settings.catalogue_url is not None:
            videos = export_catalogue(settings.database_url.get_secret_value(), open_store(settings.catalogue_url))
            told = f"Exported {videos:,} videos to" if videos else "No videos, nothing is written to"
            print(f"{told} {settings.catalogue_url}")  # noqa: T201  # the program's output
    except DayNotOverError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except (psycopg.Error, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return FAILED
    print(f"Exported {done.rows:,} interactions of {day} to {store.url}/{day} in {len(done.files)} files")  # noqa: T201  # the program's output
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from retrain.importers.simulation import Simulation, simulate  # noqa: PLC0415  # imports pyarrow

    last = datetime.now(UTC).date() - timedelta(days=1)
    sizes = {name: getattr(options, name) for name, *_ in SIMULATED}
    count = simulate(Simulation(**sizes, seed=options.seed, last=last), options.output)
    print(f"Simulated {count:,} interactions of made-up users in {options.output}")  # noqa: T201  # the program's output
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
