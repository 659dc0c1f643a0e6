"""Checks and prepares models in a process of its own, while this one serves.

The threads that serve share one interpreter with whatever else runs in this process, and wait for it even where there
are cores to spare. So this process only maps what the other one found good and left beside the model's local copy.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from modelstore.artefact import ArtefactError
from recsvc.rollout.prepare import REFUSED, Refusal

LIMIT_S: Final = 900.0
"""Seconds that it may take, an index of millions of videos included."""
UNPREPARED: Final = "unprepared"
"""Reason of a refusal that may not be the model's fault."""


def check_in_subprocess(folder: Path) -> None:
    """Check and prepare a model; ArtefactError when it must not be served or cannot be prepared.

    Args:
        folder: Of the model's local copy.
    """
    command = [sys.executable, "-m", "recsvc.rollout.prepare", str(folder)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    # The other process ends when its standard input does, so with this one. A group of its own: Ctrl-C is for this one.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0
    ) as process:
        try:
            status = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ArtefactError(UNPREPARED, f"it was not prepared within {LIMIT_S:.0f} s") from None
        assert process.stdout  # noqa: S101  # a pipe
        answer = process.stdout.read()
    if status == REFUSED:
        try:
            refusal = Refusal.model_validate_json(answer)
        except ValidationError:
            raise ArtefactError(UNPREPARED, "the process that prepares it refused it and did not say why") from None
        raise ArtefactError(refusal.reason, refusal.message)
    if status:
        raise ArtefactError(UNPREPARED, f"the process that prepares it ended with status {status}")
