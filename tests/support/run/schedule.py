"""How tests are shared out among workers: by file, and all files that share a system go to one worker."""

from pathlib import PurePosixPath
from typing import Final

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it has no stubs

SHARING: Final = frozenset({"artefacts", "faults", "interactions", "live", "pages"})
"""Files of tests/end_to_end, by what they test, that speak to its shared system."""


class BySystem(LoadFileScheduling):  # type: ignore[misc]  # as its base has no type
    """Gives each worker whole files, and all of those that share a system to one."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(super()._split_scope(nodeid))
        if path.parent.name == "end_to_end" and path.stem.removeprefix("test_") in SHARING:
            return str(path.parent)
        return str(path)
