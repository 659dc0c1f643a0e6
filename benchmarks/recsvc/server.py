"""Runs recsvc for a benchmark, on the models of a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.local.program import Service
from servicekit.process.ports import free_port

INHERITED: Final = frozenset({"PATH", "HOME", "LANG"})
"""Variables that the server gets from the benchmark's environment."""


def recsvc_of(folder: Path, *, name: str = "recsvc", **settings: str) -> Service:
    """Return a server of the folder's models, not started.

    Args:
        folder: Holds the store in `models`; the cache is made there.
        name: Of the log file in the folder.
        settings: Of the server, beyond one worker and its addresses.
    """
    address = f"127.0.0.1:{free_port()}"
    defaults = {
        "RECSVC_LISTEN": address,
        "RECSVC_WORKERS": "1",
        "MODEL_STORE_URL": (folder / "models").as_uri(),
        "MODEL_CACHE_DIR": str(folder / "cache"),
    }
    inherited = {key: value for key, value in os.environ.items() if key in INHERITED}
    return Service("recsvc", address, inherited | defaults | settings, folder / f"{name}.log")


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """Run a server until the block ends."""
    service.start()
    try:
        yield service
    finally:
        service.stop()
