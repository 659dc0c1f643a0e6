"""`python -m recsvc.live_state.verification FOLDER [--in-use]`: checks an environment, in a process of its own.

LMDB's pages have no checksums, and it follows a damaged page wherever that leads. So first `lmdb.verify` walks the file
without mapping it: every page in its place and reachable once, keys in order, no page both used and free. Only then
LMDB reads all values, whose checksums tell what the walk cannot. Whoever asks is safe from all that this process meets.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from typing import Final

import lmdb
from lmdb.verify import VerifyError, verify

from recsvc.live_state.environment import (
    ABOUT,
    ACTIVITY,
    COUNTS,
    DATA,
    DATABASES,
    ERASURES,
    HOURS,
    MAX_READERS,
    PROFILES,
    PROGRESS,
)
from recsvc.live_state.keys import (
    FORMAT,
    FORMAT_KEY,
    Packed,
    hour_key,
    hour_of,
    read_erasure,
    read_place,
    read_real,
    read_whole,
    unsealed,
)
from recsvc.live_state.profile import DamagedError, Profile
from servicekit.process import exec_with_parent

LIMIT_S: Final = 60
"""Seconds of CPU that a check may take, and one more for each BYTES_A_S; one that takes longer goes in circles."""
BYTES_A_S: Final = 16 << 20
"""An eighth of what a core checks."""
WAIT: Final = 60
"""Times the limit that the check is waited for: a busy machine says nothing against the store."""
BLOCK_BYTES: Final = 4 << 20
LOW_PRIORITY: Final = 10
MAX_TOLD: Final = 5
"""Problems that are told of one environment."""
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
IN_USE: Final = "--in-use"
COPY: Final = "checked-"
"""What names of copies that are checked begin with."""
_SMALL: Final[dict[str, Callable[[Packed], object]]] = {
    ABOUT: unsealed,
    PROGRESS: read_place,
    ERASURES: read_erasure,
    HOURS: read_whole,
    COUNTS: read_real,
}


class Verdict(IntEnum):
    """The result of a check; its value is the exit status of the process that checks."""

    SOUND = 0
    DAMAGED = 3
    UNKNOWN = 4
    """It could not be made, as on a full disk."""


def check(folder: Path, *, in_use: bool = False) -> tuple[Verdict, str]:
    """Return what a process of its own found of an environment, and why; one that dies of it found damage.

    Args:
        folder: Of the environment.
        in_use: Whether others write to it meanwhile: a copy is then checked, in the folder around.
    """
    starter = [sys.executable, "-IS", exec_with_parent.__file__, str(os.getpid()), str(int(signal.SIGKILL))]
    command = [*starter, sys.executable, "-m", "recsvc.live_state.verification", str(folder)]
    if in_use:
        command.append(IN_USE)
    try:
        wait_s = WAIT * _limit_s(folder)
        # It ends with this process. A group of its own: Ctrl-C is for this one.
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=wait_s, check=False, process_group=0
        )
    except FileNotFoundError as error:
        return Verdict.DAMAGED, str(error)
    except subprocess.TimeoutExpired:
        return Verdict.UNKNOWN, f"it was not done within {wait_s:.0f} s"
    except OSError as error:
        return Verdict.UNKNOWN, str(error)
    told = done.stdout.decode(errors="replace").strip()
    if done.returncode in tuple(Verdict):
        return Verdict(done.returncode), told
    if -done.returncode in (signal.SIGKILL, signal.SIGTERM):  # somebody's will, or want of memory
        return Verdict.UNKNOWN, f"the check was ended by signal {-done.returncode}"
    return Verdict.DAMAGED, f"the check ended with status {done.returncode}"


def _limit_s(folder: Path) -> int:
    return LIMIT_S + (folder / DATA).stat().st_size // BYTES_A_S


def digest(folder: Path) -> str:
    """Return a digest of an environment's whole file."""
    seen = sha256()
    with (folder / DATA).open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            seen.update(block)
    return seen.hexdigest()


def problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with an environment that nobody writes to; call it only where a crash hurts nobody."""
    try:
        found = verify(str(folder))  # type: ignore[no-untyped-call]  # LMDB's own has no types
    except (VerifyError, OSError, RecursionError) as error:
        found = [str(error)]
    yield from found
    if not found:
        yield from _problems_of_values(folder)


def _problems_of_values(folder: Path) -> Iterator[str]:
    environment = lmdb.Environment(str(folder), readonly=True, lock=False, max_dbs=len(DATABASES), readahead=True)
    try:
        databases = {name: environment.open_db(name.encode(), create=False) for name in DATABASES}
        with environment.begin() as transaction:
            _check_values(transaction, databases)
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    except (DamagedError, lmdb.Error) as error:
        yield str(error)
        return
    finally:
        environment.close()
    # The last pages are free and were never written: a reader must find the whole file nevertheless.
    if (folder / DATA).stat().st_size < needed:
        os.truncate(folder / DATA, needed)


def _check_values(transaction: lmdb.Transaction, databases: Mapping[str, "lmdb._Database"]) -> None:
    """Return when all values are what was written; DamagedError when they are not."""
    form = transaction.get(FORMAT_KEY, db=databases[ABOUT])
    if form is None or read_whole(form) != FORMAT:
        raise DamagedError("the store has another format")
    for name, read in _SMALL.items():
        for _, value in transaction.cursor(databases[name]):
            read(value)
    users = 0
    for user, packed in transaction.cursor(databases[PROFILES]):
        profile = Profile(bytes(packed))
        profile.check()
        if transaction.get(hour_key(hour_of(profile.newest_at_ms)) + bytes(user), db=databases[ACTIVITY]) is None:
            raise DamagedError("a user is not where the oldest ones are looked for")
        users += 1
    if transaction.stat(databases[ACTIVITY])["entries"] != users:
        raise DamagedError("somebody is looked for among the oldest users who is not there")


def _problems_in_use(folder: Path) -> list[str]:
    """Return what is wrong with a copy of an environment that others write to."""
    with tempfile.TemporaryDirectory(prefix=COPY, dir=folder.parent) as copy:
        environment = lmdb.Environment(str(folder), readonly=True, max_readers=MAX_READERS, readahead=False)
        try:
            environment.copy(copy)
        finally:
            environment.close()
        return list(problems(Path(copy)))


def main() -> None:
    """Check, say what is wrong, and end with the verdict as status."""
    folder = Path(sys.argv[1])
    os.nice(LOW_PRIORITY)
    limit_s = _limit_s(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))  # by SIGXCPU, and SIGKILL only then
    try:
        found = _problems_in_use(folder) if IN_USE in sys.argv[2:] else list(problems(folder))
    except (OSError, MemoryError) as error:
        sys.stdout.write(str(error))
        sys.exit(Verdict.UNKNOWN)
    except lmdb.Error as error:
        sys.stdout.write(str(error))
        sys.exit(Verdict.UNKNOWN if error.code in FULL else Verdict.DAMAGED)
    sys.stdout.write("; ".join(found[:MAX_TOLD]))
    sys.exit(Verdict.DAMAGED if found else Verdict.SOUND)


if __name__ == "__main__":
    main()
