"""recsvc whose pages take longer while a file is there: `python -m benchmarks.slowed_recsvc`, settings as recsvc's.

SLOW_FILE names the file, which holds the milliseconds that each page takes longer.
"""

import os
import socket
import time
from pathlib import Path

from recsvc.pages.recommender import FeedQuery, Page, Recommender
from recsvc.settings import RecsvcSettings
from recsvc.workers.supervisor_link import SupervisorLink
from servicekit.inputs.numbers import read_number

_SLOW = Path(os.environ.pop("SLOW_FILE"))
_recommend = Recommender.recommend


def _slowed(self: Recommender, query: FeedQuery) -> Page:
    try:
        extra_ms = read_number(_SLOW.read_text(encoding="utf-8") or "0", least=0, most=60_000)
    except FileNotFoundError:
        extra_ms = 0.0
    if extra_ms:
        time.sleep(extra_ms / 1000)
    return _recommend(self, query)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    Recommender.recommend = _slowed  # type: ignore[method-assign]  # which is what this is for
    from recsvc.__main__ import serve

    supervisor, worker = socket.socketpair()  # nobody's worker, for as long as it runs
    serve(RecsvcSettings.load(), SupervisorLink(worker))
