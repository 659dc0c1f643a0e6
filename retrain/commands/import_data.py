"""Defines the command that imports data in public layouts: MovieLens, MovieTweetings, KuaiRand, plain CSV."""

import argparse
import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retrain.errors import RunError
from retrain.exit_status import BAD_INPUT, FAILED
from servicekit.configuration.arguments import memory, number
from servicekit.configuration.command_line import CommandLine
from servicekit.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from retrain.importers.datasets import Imported
    from retrain.importers.layouts import Layout
    from retrain.importers.skipped_rows import SkippedRows

MAX_LEFT_OUT: Final = 0.01
"""That of `left_out`, which imports the database."""
EPILOG: Final = """layouts of a folder, told by its files:
  MovieLens         ratings.csv, movies.csv
  MovieTweetings    ratings.dat, movies.dat (MovieLens 1M and 10M have them too)
  KuaiRand          log_standard_*.csv, video_features_basic_*.csv

A CSV file with a header row, or a parquet file, needs --user, --item and --time; times are ISO 8601 or seconds,
milliseconds or microseconds since 1970, in parquet also dates and timestamps. What a row means:
  --kind COLUMN     an interaction type, such as watch, like or share; --rename translates other words
  --value COLUMN    a rating: liked from --liked-from on
  neither           what --as says

A rating of at least --liked-from becomes a like, a lower one a rating: seen, but not liked.

Unusable rows are left out and listed. Where they are more than --max-left-out of all, nothing is written
and the status is 2.

examples:
  python -m retrain import ml-25m --output data
  python -m retrain import plays.csv --user listener --item track --time played_at --as complete --output data
  python -m retrain import shop.csv --user u --item sku --time ts --kind event --rename view=watch \\
    --rename purchase=favorite --output data
"""


def add(commands: CommandLine) -> None:
    """Add the command to the program's."""
    parser = commands.add(
        "import", "write ratings or interactions in a public layout, or CSV, as run reads them", _import, epilog=EPILOG
    )
    parser.add_argument(
        "source", type=Path, help="a folder in a known layout, a CSV file (.gz as well) or a parquet file"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder that gets exports/ and videos.parquet"
    )
    parser.add_argument("--liked-from", type=number(), metavar="RATING", help="default: the median of all ratings")
    parser.add_argument(
        "--memory",
        type=memory,
        default="1GiB",
        metavar="SIZE",
        help="memory for sorting; the rest spills to the output",
    )
    parser.add_argument(
        "--max-left-out",
        type=number(0.0, 1.0),
        default=MAX_LEFT_OUT,
        metavar="SHARE",
        help="share of the rows that may be left out, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--timezone",
        type=_zone,
        default="UTC",
        metavar="ZONE",
        help="of times that do not name theirs, such as Europe/Paris (default: %(default)s)",
    )
    columns = parser.add_argument_group("of a CSV or parquet file")
    for name, text in (
        ("user", "column of users"),
        ("item", "column of videos"),
        ("time", "column of times"),
        ("kind", "column of interaction types"),
        ("value", "column of ratings"),
        ("watch-time", "column of watch times, milliseconds"),
    ):
        columns.add_argument(f"--{name}", metavar="COLUMN", help=text)
    columns.add_argument("--as", dest="every", default="like", metavar="TYPE", help="type of all rows (default: like)")
    columns.add_argument("--rename", action="append", type=_pair, default=[], metavar="THEIRS=TYPE")
    columns.add_argument(
        "--delimiter", type=_character, default=",", metavar="CHARACTER", help="default: a comma; \\t for a tab"
    )


def _import(options: argparse.Namespace) -> int:
    from retrain.importers.datasets import import_data  # noqa: PLC0415  # imports pyarrow

    configure_logs("warning", service="retrain")

    try:
        done = import_data(
            _layout(options),
            options.output,
            liked_from=options.liked_from,
            max_left_out=options.max_left_out,
            zone=options.timezone,
            memory=options.memory,
            threads=len(os.sched_getaffinity(0)),
        )
    except RunError as failure:
        sys.stderr.write(f"error: {failure}\n")
        return BAD_INPUT
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    print(_told(done, options.output, options.timezone))  # noqa: T201  # the program's output
    return 0


def _layout(options: argparse.Namespace) -> "Layout":
    from retrain.errors import Reason  # noqa: PLC0415
    from retrain.importers.layouts import Columns, find_layout, plain_file  # noqa: PLC0415

    source = options.source
    if source.is_dir():
        found = find_layout(source)
        if not found:
            raise RunError(Reason.EXPORTS, f"{source} holds no ratings.csv, ratings.dat or log_standard_*.csv")
        return found
    if not source.is_file():
        raise RunError(Reason.EXPORTS, f"there is no {source}")
    missing = [f"--{name}" for name in ("user", "item", "time") if not getattr(options, name)]
    if missing:
        raise RunError(Reason.SCHEMA, f"{source.name} is a plain file: {', '.join(missing)} must name its columns")
    columns = Columns(
        user=options.user,
        item=options.item,
        time=options.time,
        kind=options.kind,
        value=options.value,
        watch_time=options.watch_time,
    )
    return plain_file(source, columns, options.delimiter, kinds=dict(options.rename), kind=options.every)


def _told(done: "Imported", output: Path, zone: str) -> str:
    """Return a summary of the import, and the commands to type next."""
    span = (done.last - done.first) // timedelta(days=1) + 1
    folder = output.resolve()
    kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in done.kinds.items())
    rows = [
        ("layout", done.layout),
        ("interactions", f"{done.interactions:,} ({kinds})"),
        *([("liked from", f"a rating of {done.liked_from:g}")] if done.liked_from is not None else []),
        *_left_out("left out", done.left_out),
        *(_left_out("of catalogue", done.catalogue_left_out) if done.catalogue_left_out.counts else []),
        ("times", f"of {zone} where they name no zone"),
        ("users", f"{done.users:,}"),
        ("videos", f"{done.videos:,}"),
        ("days", f"{done.first} to {done.last}, {done.days:,} of {span:,} with interactions"),
    ]
    window = f"RETRAIN_WINDOW_DAYS={span}"
    lines = [
        "Imported",
        *(f"  {name:13} {text}" for name, text in rows),
        "",
        "Start everything with it, or train on it:",
        f"  {window} make run DATA={shlex.quote(str(folder))}",
        f"  {window} INTERACTIONS_URL={(folder / 'exports').as_uri()} CATALOGUE_URL={folder.as_uri()} \\",
        "    MODEL_STORE_URL=file:///<folder> python -m retrain run",
    ]
    return "\n".join(lines)


def _left_out(title: str, left_out: "SkippedRows") -> list[tuple[str, str]]:
    told = left_out.told()
    if left_out.counts:
        told[0] += f" of {left_out.read:,} rows" if len(told) == 1 else ""
    if left_out.within:
        told.append(f"{left_out.within:,} lines lie within quoted values of columns that are not read")
    return [(title if not number else "", text) for number, text in enumerate(told or ["nothing"])]


def _zone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time zone, such as Europe/Paris") from None


def _character(text: str) -> str:
    character = text.replace("\\t", "\t")
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character")
    return character


def _pair(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"{text!r} is not THEIRS=TYPE")
    return theirs, ours
