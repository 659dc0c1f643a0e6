"""`python -m deploy.local`: run the whole system here until Ctrl-C."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import duckdb
import psycopg

from deploy.local.child_process import ChildError
from deploy.local.data_folder import DataSet
from deploy.local.output import say
from deploy.local.run_folder import ROOT, state_of
from deploy.local.stack import Stack
from servicekit.configuration.settings import refuse_unknown_settings


class StopRequested(BaseException):
    """A signal asked for the end of the program."""


def main() -> None:
    """Run the system until a signal."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Run the whole system here.")
    parser.add_argument("--data", type=Path, help="folder with exports/YYYY-MM-DD/*.parquet; simulated without one")
    parser.add_argument("--state", type=Path, default=ROOT / ".run", help="folder that keeps everything (%(default)s)")
    arguments = parser.parse_args()
    refuse_unknown_settings()
    folder = arguments.data.resolve() if arguments.data else None
    stack = Stack(
        state_of(folder, arguments.state.resolve()),
        DataSet(folder) if folder else None,
        os.environ.get("RECSVC_LISTEN", "127.0.0.1:50051"),
        os.environ.get("BRIDGE_LISTEN", "127.0.0.1:50052"),
        os.environ,
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        stack.run()
    except StopRequested:
        say("Stopped.")
    except ChildError as error:
        sys.exit(f"error: {error}")
    except (OSError, psycopg.Error, duckdb.Error) as error:  # such as a disk that is full
        sys.exit(f"error: {' '.join(str(error).split())}")


def _stop(_: int, __: FrameType | None) -> None:
    """End the program once; what is being stopped is not interrupted by more signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("\nStopping …")
    raise StopRequested


if __name__ == "__main__":
    main()
