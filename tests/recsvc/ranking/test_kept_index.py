"""One process builds a model's index for all of its machine, and nothing damaged or outdated is ever searched."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import faiss
import numpy as np
import pytest

from recsvc.domain.user import User, UserState
from recsvc.local_files import derived_files
from recsvc.ranking import approximate, inverted_file
from recsvc.ranking.approximate import IndexedRanker, kept_index, ranker_of
from recsvc.ranking.exact import ExactRanker, Exclusions, Ranker
from recsvc.ranking.inverted_file import InvertedFile
from servicekit.files.lock import FileLock
from tests.recsvc.support.models import manifest_of
from tests.support.polling import wait_for

VIDEOS, DIMENSIONS = 6_000, 9
FILES: Final = {"lists.bin", "quantisers.faiss", "tuning.npy", "unlisted.npy", "description.json"}
MANIFEST: Final = manifest_of("1", 50, VIDEOS, DIMENSIONS)
RNG: Final = np.random.default_rng(1)
EXACT: Final = ExactRanker(
    RNG.standard_normal((VIDEOS, DIMENSIONS)).astype(np.float32), RNG.standard_normal(VIDEOS).astype(np.float32)
)
USERS: Final = RNG.standard_normal((50, DIMENSIONS)).astype(np.float32)


def listed(patch: pytest.MonkeyPatch) -> None:
    """Let a catalogue as small have an index of most of its videos."""
    patch.setattr(approximate, "FROM", 1000)
    patch.setattr(approximate, "RECALL", 0.5)
    patch.setattr(inverted_file, "HEAD", 500)


@pytest.fixture(autouse=True)
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the indexes that this process builds, as a list that grows."""
    listed(monkeypatch)
    built, tuned = list[int](), IndexedRanker.tuned

    def counted(*arguments: object) -> IndexedRanker:
        built.append(os.getpid())
        return tuned(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(IndexedRanker, "tuned", counted)
    return built


def loaded(folder: Path) -> Ranker:
    ranker = ranker_of(EXACT, USERS, kept_index(folder, MANIFEST))
    assert isinstance(ranker, IndexedRanker)
    return ranker


def pages(ranker: Ranker) -> list[list[int]]:
    users = [User(state=UserState.TRAINED, vector=one, bias=0.0, seen=np.empty(0, np.int32)) for one in USERS]
    return [ranker.top(user, 20, Exclusions()).rows.tolist() for user in users]


def is_mapped(folder: Path) -> bool:
    return str(folder / "index" / "lists.bin") in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_what_was_kept_is_mapped_and_answers_as_what_was_built(tmp_path: Path, builds: list[int]) -> None:
    alone = ranker_of(EXACT, USERS)
    first, second = loaded(tmp_path), loaded(tmp_path)

    assert len(builds) == 2, "one alone, one kept"
    assert is_mapped(tmp_path)
    assert {path.name for path in (tmp_path / "index").iterdir()} == FILES
    assert pages(first) == pages(second) == pages(alone)
    assert first.recall == second.recall == alone.recall < 1
    fresher = RNG.permutation(EXACT.static)
    assert pages(first.with_static(fresher)) == pages(second.with_static(fresher))
    del first, second
    assert not is_mapped(tmp_path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink])
@pytest.mark.parametrize("name", sorted(FILES))
def test_damaged_files_are_made_anew(
    tmp_path: Path, builds: list[int], name: str, damage: Callable[[Path], None]
) -> None:
    expected = pages(loaded(tmp_path))
    damage(tmp_path / "index" / name)

    assert pages(loaded(tmp_path)) == expected
    assert len(builds) == 2
    loaded(tmp_path)
    assert len(builds) == 2


@pytest.mark.parametrize("change", ["model", "library", "parameters", "format"])
def test_what_was_made_of_another_model_or_in_another_way_is_made_anew(
    tmp_path: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Another model of the same version is one that was published anew in another store."""
    kept = kept_index(tmp_path, MANIFEST.model_copy(update={"popularity_weight": 0.1} if change == "model" else {}))
    with monkeypatch.context() as patch:
        if change == "library":
            patch.setattr(faiss, "__version__", "1.0.0")
        elif change == "parameters":
            patch.setattr(approximate, "SAMPLE", 7)
        elif change == "format":
            patch.setattr(approximate, "FORMAT", 0)
        if change != "model":
            kept = kept_index(tmp_path, MANIFEST)
    ranker_of(EXACT, USERS, kept)
    loaded(tmp_path)
    loaded(tmp_path)

    assert len(builds) == 2


def test_files_that_faiss_cannot_read_are_made_anew(tmp_path: Path, builds: list[int]) -> None:
    """Even with the right checksums."""
    expected = pages(loaded(tmp_path))

    def fill(folder: Path) -> None:
        for name in FILES:
            (folder / name).write_bytes(b"none")

    assert kept_index(tmp_path, MANIFEST).write(fill)

    assert pages(loaded(tmp_path)) == expected
    assert len(builds) == 2


def test_a_builder_that_hangs_is_not_waited_for_long(
    tmp_path: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn is respected: nothing is written beside it."""
    monkeypatch.setattr(derived_files, "PATIENCE_S", 0.2)
    with FileLock.of_folder(tmp_path):
        loaded(tmp_path)
    assert len(builds) == 1
    assert not (tmp_path / "index").exists()


def test_what_cannot_be_kept_serves_all_the_same(tmp_path: Path, builds: list[int]) -> None:
    """The folder is gone, or a file stands in the way."""
    loaded(tmp_path / "gone")
    (tmp_path / ".index").write_bytes(b"")
    loaded(tmp_path)
    assert len(builds) == 2


def _child(folder: Path, *, stops: bool) -> None:
    """Load the index as a process of its own; note whether it was built, and what it answers."""
    with pytest.MonkeyPatch.context() as patch:
        listed(patch)
        write, log = InvertedFile.write, folder / f"{os.getpid()}"

        def written(lists: InvertedFile, to: Path) -> None:
            write(lists, to)
            (folder / f"{os.getpid()}.built").touch()
            if stops:
                os.kill(os.getpid(), signal.SIGSTOP)

        patch.setattr(InvertedFile, "write", written)
        ranker = loaded(folder)
        assert is_mapped(folder)
        log.write_text(str(pages(ranker)), encoding="utf-8")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., BaseProcess]]:
    """Return what starts a process that loads the index."""
    started = []

    def begin(*, stops: bool) -> BaseProcess:
        started.append(
            multiprocessing.get_context("spawn").Process(target=_child, args=(tmp_path,), kwargs={"stops": stops})
        )
        started[-1].start()
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.join()


@pytest.mark.process
def test_processes_that_race_build_it_once(tmp_path: Path, start: Callable[..., BaseProcess]) -> None:
    for process in [start(stops=False) for _ in range(3)]:
        process.join(60)
        assert process.exitcode == 0

    assert len(list(tmp_path.glob("*.built"))) == 1
    answers = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.name.isdigit()]
    assert answers == [str(pages(loaded(tmp_path)))] * 3


@pytest.mark.process
def test_a_killed_builder_leaves_nothing_half_made(
    tmp_path: Path, builds: list[int], start: Callable[..., BaseProcess]
) -> None:
    """One that waits for it takes its turn as soon as it is dead."""
    victim = start(stops=True)
    wait_for(lambda: list(tmp_path.glob("*.built")), timeout_s=60, what="its files")
    heir = start(stops=False)
    wait_for(lambda: (tmp_path / ".index" / "lists.bin").stat().st_size, what="a part of it")
    assert not (tmp_path / "index").exists()
    victim.kill()
    heir.join(60)

    assert heir.exitcode == 0
    assert len(list(tmp_path.glob("*.built"))) == 2
    assert not (tmp_path / ".index").exists()
    loaded(tmp_path)
    assert not builds
