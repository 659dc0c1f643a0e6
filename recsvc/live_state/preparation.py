"""Checks, before a process maps the store, that its file is whole and is the one that was closed."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import lmdb
import structlog

from recsvc.live_state.compaction import give_up
from recsvc.live_state.environment import ERASURES, read_name
from recsvc.live_state.keys import FORMAT, erasure
from recsvc.live_state.note import Note, boot_id, read_note, write_note
from recsvc.live_state.store import LiveStore, StoreError
from recsvc.live_state.verification import COPY, Verdict, check, digest
from servicekit.files.lock import FileLock
from servicekit.files.replacement import PRIVATE, write_whole

logger = structlog.get_logger(__name__)

FOLLOWER_LOCK: Final = "follower.lock"
"""Held by the follower that is at work in the folder."""
ASIDE: Final = "aside"
"""File with the name of the environment that is to be checked before it is current again."""
PATIENCE_S: Final = 30.0
"""Seconds to wait for whoever writes."""


def prepare(store: LiveStore, *, session: str, boot: str | None = None) -> bool:
    """Make an environment current that is sound, a new one where there is none.

    While it is checked, none is current: pages are served without it. The caller holds the follower's lock.

    Args:
        store: Whose environments.
        session: Names the run of recsvc. In one whose workers have the file mapped already, it is not checked again.
        boot: Names the run of the machine; None to ask the kernel.

    Returns:
        Whether the current one says how far the topics are read.
    """
    boot = boot_id() if boot is None else boot
    note = read_note(store.folder)
    if note is None or note.session != session or not store.current() or store.environment() is None:
        name = _put_aside(store) or _only_one(store)
        reports = store.damage.reports
        problem = _problem(store, name, note, boot) if name else "there is none"
        if problem:
            if name or note:  # else it is a new machine's first start
                logger.warning("live_state.begins_anew", reason=problem)
            name = store.create()
        # Before anything is written: whoever finds it later must know that not all of it may be on disk.
        write_note(store.folder, Note(boot=boot, session=session, is_synced=store.is_synced))
        _bring_back(store, name)
        store.damage.settle(reports)
    _clean_up(store)
    return bool(store.progress())


def close_cleanly(store: LiveStore, *, session: str, boot: str | None = None) -> None:
    """Write the store to disk, and note its digest: it needs no other check at the next start.

    Args:
        store: To which nobody writes any more; who does makes the check necessary again.
        session: Names the run of recsvc.
        boot: Names the run of the machine; None to ask the kernel.
    """
    environment = store.environment()
    if environment is None:
        return
    with store.turn(patience_s=PATIENCE_S):
        name = store.current()
        try:
            environment.lmdb.sync(True)  # noqa: FBT003  # LMDB names it `force`
        except lmdb.Error as error:
            raise StoreError(f"the live state cannot be written: {error}") from error
        note = Note(
            boot=boot_id() if boot is None else boot,
            session=session,
            is_synced=store.is_synced,
            environment=name,
            digest=digest(store.folder / name),
        )
        write_note(store.folder, note)


def examine(store: LiveStore) -> bool:
    """Look into reports of damage; return whether a new, empty environment has taken the place of a damaged one.

    Readers and writers go on meanwhile, unless the store was set aside. The caller holds the follower's lock, and asks
    for this when `store.damage.is_reported`. StoreError when the check cannot be made now.
    """
    reports, current = store.damage.reports, store.current()
    name = current or _aside(store.folder) or _only_one(store)
    verdict, why = check(store.folder / name, in_use=bool(current)) if name else (Verdict.DAMAGED, "there is none")
    if verdict is Verdict.UNKNOWN:
        raise StoreError(f"the live state cannot be checked: {why}")
    if verdict is Verdict.DAMAGED:
        logger.error("live_state.damaged", reason=why)
        name = store.create()
    if name != current:
        _bring_back(store, name)
        _clean_up(store)
    store.damage.settle(reports)
    return verdict is Verdict.DAMAGED


def begin_anew(store: LiveStore) -> None:
    """Put an empty environment in the place of the current one, as for another Kafka cluster.

    Who is forgotten stays so. The caller holds the follower's lock.
    """
    if store.environment() is None:
        raise StoreError("the live state is not there yet")
    name = store.create()
    try:
        environment = store.open(name)
        with store.turn(patience_s=PATIENCE_S):
            with environment.begin(write=True) as transaction:
                for mark, at_ms, _ in store.marks():  # there is no profile that one of them is not applied to
                    transaction.put(mark, erasure(at_ms, is_applied=True), db=environment[ERASURES])
            store.make_current(name)
    except lmdb.Error as error:
        raise StoreError(f"the live state cannot begin anew: {error}") from error
    finally:
        if store.current() != name:
            shutil.rmtree(store.folder / name, ignore_errors=True)
    _clean_up(store)


def set_aside(folder: Path) -> None:
    """Let nobody map the store until it has been examined; for whoever sees a worker die by SIGBUS or SIGSEGV."""
    store = LiveStore(folder)
    with suppress(StoreError):
        _put_aside(store, patience_s=1.0)
    store.damage.report()


def hold_back(folder: Path) -> None:
    """Let nobody map the store until this run's follower has checked it, unless another run's is at work on it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(BlockingIOError), FileLock(folder / FOLLOWER_LOCK, mode=PRIVATE):
        _put_aside(LiveStore(folder), patience_s=1.0)


def _problem(store: LiveStore, name: str, note: Note | None, boot: str) -> str:
    """Return why an environment cannot be trusted, an empty text when it can."""
    if note is None:
        return "nothing says how it was left"
    if note.store_format != FORMAT:
        return f"it has format {note.store_format}, not {FORMAT}"
    with suppress(OSError):  # what cannot be read is checked
        if note.environment == name and note.digest == digest(store.folder / name):
            return ""
    if not note.is_synced and (not boot or note.boot != boot):
        return "the machine stopped before all of it was on disk"
    verdict, why = check(store.folder / name)
    if verdict is Verdict.UNKNOWN:
        raise StoreError(f"the live state cannot be checked: {why}")
    return why if verdict is Verdict.DAMAGED else ""


def _put_aside(store: LiveStore, *, patience_s: float = PATIENCE_S) -> str:
    """Let no environment be current, and return the name of the one that was."""
    with store.turn(patience_s=patience_s):
        name = store.current()
        if not name:
            return _aside(store.folder)
        write_whole(store.folder / ASIDE, name, mode=PRIVATE)
        store.make_current("")
        return name


def _bring_back(store: LiveStore, name: str) -> None:
    with store.turn(patience_s=PATIENCE_S):
        store.make_current(name)
    (store.folder / ASIDE).unlink(missing_ok=True)


def _aside(folder: Path) -> str:
    return read_name(folder / ASIDE)


def _only_one(store: LiveStore) -> str:
    """Return the environment that is there where no file says which one it is, and there is only one."""
    names = store.names()
    return names[0] if len(names) == 1 else ""


def _clean_up(store: LiveStore) -> None:
    """Remove what an earlier follower left that did not end well."""
    give_up(store)
    kept = {store.current(), _aside(store.folder)}  # it may have been set aside this moment
    others = [name for name in store.names() if name not in kept]
    copies = [path.name for path in store.folder.iterdir() if path.name.startswith(COPY)]
    for name in (*others, *copies):
        shutil.rmtree(store.folder / name, ignore_errors=True)
