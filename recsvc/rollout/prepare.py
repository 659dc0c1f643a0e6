"""`python -m recsvc.rollout.prepare FOLDER`: check a model's local copy, and write the derived files beside it."""

import os
import sys
import threading
from pathlib import Path
from typing import Final, cast

from pydantic import BaseModel

from modelstore.artefact import ArtefactError
from recsvc.rollout.acceptance_checks import check_folder
from servicekit.telemetry.logs import LogLevel, configure_logs

LOW_PRIORITY: Final = 10
REFUSED: Final = 3
"""Exit status when the model must not be served; standard output has a `Refusal`."""


class Refusal(BaseModel):
    """The refusal of a model; see `ArtefactError`."""

    reason: str
    message: str


def main() -> None:
    """Check and prepare the model; exit when the process at the other end of standard input does."""
    os.nice(LOW_PRIORITY)
    configure_logs(cast("LogLevel", os.environ.get("LOG_LEVEL") or "info"), service="recsvc")
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        check_folder(folder)
    except ArtefactError as error:
        sys.stdout.write(Refusal(reason=error.reason, message=str(error)).model_dump_json())
        sys.exit(REFUSED)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
