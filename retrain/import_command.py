"""The command that brings in data in public layouts: MovieLens, MovieTweetings, KuaiRand, plain CSV."""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrain.exit_status import BAD_INPUT, FAILED
from retrain.failure import RunFailure
from servicekit.arguments import memory, number

if TYPE_CHECKING:
    from retrain.importing import Imported
    from retrain.layouts import Layout

EPILOG: Final = """layouts of a folder, told by its files:
  MovieLens         ratings.csv, movies.csv
  MovieTweetings    ratings.dat, movies.dat (MovieLens 1M and 10M have them too)
  KuaiRand          log_standard_*.csv, video_features_basic_*.csv

A CSV file with a header row needs --user, --item and --time; times are ISO 8601 or seconds, milliseconds or
microseconds since 1970. What a row means:
  --kind COLUMN     an interaction type, such as watch, like or share; --rename translates other words
  --value COLUMN    a rating: liked from --liked-from on
  neither           what --as says

A rating of at least --liked-from becomes a like, a lower one a rating: seen, but not liked.

examples:
  python -m retrain import ml-25m --output data
  python -m retrain import plays.csv --user listener --item track --time played_at --as complete --output data
  python -m retrain import shop.csv --user u --item sku --time ts --kind event --rename view=watch \\
    --rename purchase=favorite --output data
"""


def add(commands: Any) -> None:
    """Add it to a parser's commands."""
    parser = commands.add_parser(
        "import",
        help="write ratings or interactions in a public layout, or CSV, as run reads them",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="a folder in a known layout, or a CSV file (.gz as well)")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="gets exports/ and videos.parquet")
    parser.add_argument("--liked-from", type=number(), metavar="RATING", help="default: the median of all ratings")
    parser.add_argument(
        "--memory", type=memory, default="1GiB", metavar="SIZE", help="for sorting; the rest spills to the output"
    )
    columns = parser.add_argument_group("of a CSV file")
    for name, text in (
        ("user", "column of viewers"),
        ("item", "column of videos"),
        ("time", "column of times"),
        ("kind", "column of interaction types"),
        ("value", "column of ratings"),
        ("watch-time", "column of watch times, milliseconds"),
    ):
        columns.add_argument(f"--{name}", metavar="COLUMN", help=text)
    columns.add_argument("--as", dest="every", default="like", metavar="TYPE", help="of all rows (default: like)")
    columns.add_argument("--rename", action="append", type=_pair, default=[], metavar="THEIRS=TYPE")
    columns.add_argument(
        "--delimiter", type=_character, default=",", metavar="CHARACTER", help="default: a comma; \\t for a tab"
    )
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    from retrain.importing import import_data  # noqa: PLC0415  # imports pyarrow

    try:
        done = import_data(
            _layout(options),
            options.output,
            liked_from=options.liked_from,
            memory=options.memory,
            threads=len(os.sched_getaffinity(0)),
        )
    except RunFailure as failure:
        sys.stderr.write(f"error: {failure}\n")
        return BAD_INPUT
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    print(_told(done, options.output))  # noqa: T201  # the program's output
    return 0


def _layout(options: argparse.Namespace) -> "Layout":
    from retrain.failure import Reason  # noqa: PLC0415
    from retrain.layouts import Columns, find_layout, plain_csv  # noqa: PLC0415

    source = options.source
    if source.is_dir():
        found = find_layout(source)
        if not found:
            raise RunFailure(Reason.EXPORTS, f"{source} holds no ratings.csv, ratings.dat or log_standard_*.csv")
        return found
    if not source.is_file():
        raise RunFailure(Reason.EXPORTS, f"there is no {source}")
    missing = [f"--{name}" for name in ("user", "item", "time") if not getattr(options, name)]
    if missing:
        raise RunFailure(Reason.SCHEMA, f"{source.name} is a plain file: {', '.join(missing)} must name its columns")
    columns = Columns(
        user=options.user,
        item=options.item,
        time=options.time,
        kind=options.kind,
        value=options.value,
        watch_time=options.watch_time,
    )
    return plain_csv(source, columns, options.delimiter, kinds=dict(options.rename), kind=options.every)


def _told(done: "Imported", output: Path) -> str:
    """Return what was imported, and what to type next."""
    span = (done.last - done.first) // timedelta(days=1) + 1
    folder = output.resolve()
    kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in done.kinds.items())
    rows = [
        ("layout", done.layout),
        ("interactions", f"{done.interactions:,} ({kinds})"),
        *([("liked from", f"a rating of {done.liked_from:g}")] if done.liked_from is not None else []),
        ("left out", ", ".join(f"{reason} {rows:,}" for reason, rows in done.broken.items()) or "nothing"),
        ("viewers", f"{done.users:,}"),
        ("videos", f"{done.videos:,}"),
        ("days", f"{done.first} to {done.last}, {done.days:,} of {span:,} with interactions"),
    ]
    window = f"RETRAIN_WINDOW_DAYS={span}"
    lines = [
        "Imported",
        *(f"  {name:13} {text}" for name, text in rows),
        "",
        "Start everything with it, or train on it:",
        f"  {window} make run DATA={folder}",
        f"  {window} INTERACTIONS_URL={(folder / 'exports').as_uri()} CATALOGUE_URL={folder.as_uri()} \\",
        "    MODEL_STORE_URL=file:///<folder> python -m retrain run",
    ]
    return "\n".join(lines)


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
