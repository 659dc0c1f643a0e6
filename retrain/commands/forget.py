"""Defines the command that rewrites exports without the rows of erased users."""

import argparse
import sys

from retrain.exit_status import FAILED
from retrain.settings import RetrainSettings
from servicekit.configuration.command_line import CommandLine
from servicekit.storage.object_store import open_store


def add(commands: CommandLine) -> None:
    """Add the command to the program's."""
    forget = commands.add("forget", "rewrite the exports without the users who were erased", _forget, RetrainSettings)
    forget.add_argument(
        "--dry-run", action="store_true", help="name the files that hold rows of erased users, and stop"
    )


def _forget(options: argparse.Namespace) -> int:
    settings = RetrainSettings.load()
    import psycopg  # noqa: PLC0415  # no other command needs it

    from retrain.data.erased_users import SERVERS_KEY, merge, read_erasures  # noqa: PLC0415
    from retrain.data.export_day import read_erased  # noqa: PLC0415  # imports pyarrow
    from retrain.data.forgetting import forget  # noqa: PLC0415  # likewise

    conninfo = settings.conninfo()
    rows, failed = 0, False
    try:
        interactions, models = open_store(settings.interactions_url), open_store(settings.model_store_url)
        erased = merge(
            read_erasures(interactions),
            read_erasures(models, SERVERS_KEY),
            read_erased(conninfo) if conninfo else {},
        )
        for one in forget(interactions, erased, dry_run=options.dry_run):
            what = f"not rewritten: {one.problem}" if one.problem else f"{one.rows:,} rows"
            sys.stdout.write(f"{one.key}: {what}\n")
            rows, failed = rows + one.rows, failed or bool(one.problem)
    except (psycopg.Error, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return FAILED
    done = "would be removed" if options.dry_run else "removed"
    sys.stdout.write(f"{rows:,} rows of erased users {done} from the exports; {len(erased):,} erased users in all\n")
    return FAILED if failed else 0
