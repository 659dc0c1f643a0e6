"""`python -m retrain`, itself and in the runs that its schedule starts, with a lock that is free soon after a kill."""

import sys
from typing import Final

from retrain.__main__ import main
from retrain.scheduling import lock
from retrain.scheduling.subprocess_run import RUN, ChildRun

LEASE_S: Final = 5.0

if __name__ == "__main__":
    lock.LEASE_S = LEASE_S  # type: ignore[misc]  # a test's
    defaults = ChildRun.__init__.__kwdefaults__ or {}
    defaults["command"] = (sys.executable, "-m", "tests.retrain.support.hurried", *RUN[3:])
    sys.exit(main(sys.argv[1:]))
