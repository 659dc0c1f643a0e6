"""Defines the command that renders a run's report again, from the data kept beside its model."""

import argparse
import sys
from pathlib import Path

from retrain.exit_status import FAILED
from retrain.settings import StoreSettings
from servicekit.configuration.command_line import CommandLine
from servicekit.storage.object_store import ObjectNotFoundError, open_store


def add(commands: CommandLine) -> None:
    """Add the command to the program's."""
    parser = commands.add("report", "write the page of a run's report", _report, StoreSettings)
    parser.add_argument("version", nargs="?", help="a published version, or the name of a rejected run (default: live)")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")


def _report(options: argparse.Namespace) -> int:
    settings = StoreSettings.load()
    from modelstore.artefact import ArtefactError  # noqa: PLC0415  # imports numpy
    from modelstore.registry import Registry  # noqa: PLC0415
    from retrain.errors import RunError  # noqa: PLC0415
    from retrain.pipeline.write_report import read_report, write_page  # noqa: PLC0415
    from retrain.publishing.publish import live_version  # noqa: PLC0415

    store = open_store(settings.model_store_url)
    version = options.version
    try:
        version = version or live_version(Registry(store)) or "live"
        write_page(read_report(store, version), options.output)
    except ObjectNotFoundError:
        sys.stderr.write(f"error: {store.url} holds no report of {version}\n")
        return FAILED
    except (RunError, ArtefactError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    print(options.output.resolve().as_uri())  # noqa: T201  # the program's output
    return 0
