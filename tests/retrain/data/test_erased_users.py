"""Who was erased is not trained on, whatever older exports hold."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from retrain.data.duckdb_session import DuckDbSession
from retrain.data.erased_users import KEY, SERVERS_KEY, add_erasures, encode, local_list, read_erasures
from retrain.data.exports import choose_window
from retrain.data.input_files import InputFiles, fetch
from retrain.data.prepare import Counts, prepare
from retrain.recipe import recipe_digest
from servicekit.storage.object_store import FileStore
from servicekit.user_fingerprint import user_fingerprint
from tests.retrain.support.feeds import DAY, at, row, write_day, write_history

NOON_MS = round(DAY.timestamp() * 1000) + 12 * 3_600_000


def _source(folder: Path, erased: dict[bytes, int]) -> InputFiles:
    interactions, models = FileStore(folder / "exports"), FileStore(folder / "models")
    window = choose_window(interactions, last=None, length=30, marker_required=False)
    add_erasures(interactions, erased)
    source = fetch(window, interactions, FileStore(folder), folder / "scratch")
    return InputFiles(
        exports=source.exports,
        catalogue=None,
        history=source.history,
        erased=local_list(interactions, models, folder / "scratch"),
    )


def _prepared(folder: Path, source: InputFiles) -> tuple[list[str], Counts]:
    window = choose_window(FileStore(folder / "exports"), last=None, length=30, marker_required=False)
    folder = folder / "warehouse"
    folder.mkdir(exist_ok=True)
    with DuckDbSession(folder, memory="200MiB", threads=1) as warehouse:
        interactions = prepare(source, window, warehouse)
        return interactions.users().ids(np.arange(interactions.counts.users)), interactions.counts


def _learnt(folder: Path, source: InputFiles) -> tuple[list[str], int, int]:
    users, counts = _prepared(folder, source)
    return users, counts.events, counts.past_events


def test_what_happened_before_an_erasure_is_left_out(tmp_path: Path) -> None:
    """Of exports and of histories; what happened afterwards is kept, and so is everybody else."""
    write_day(
        tmp_path / "exports", "2026-03-01",
        [row("gone", "v1"), row("back", "v1"), row("back", "v2", time=at(13)), row("stays", "v1")],
    )  # fmt: skip
    history = {"watched": ["v9"], "liked": [], "longWatched": []}
    write_history(tmp_path, [{"userId": user, "lastWatchedAt": DAY, **history} for user in ("gone", "stays")])
    everything = _source(tmp_path, {})
    assert everything.erased is None
    assert _learnt(tmp_path, everything) == (["back", "gone", "stays"], 4, 2)
    (tmp_path / "warehouse" / "scratch.duckdb").unlink()
    source = _source(tmp_path, {user_fingerprint("gone"): NOON_MS, user_fingerprint("back"): NOON_MS})
    assert _learnt(tmp_path, source) == (["back", "stays"], 2, 1)
    assert recipe_digest(source, {}) != recipe_digest(everything, {})


def test_rows_without_time_or_user_beside_an_erasure(tmp_path: Path) -> None:
    """What may be from before it is left out, and not counted as broken; everybody else's rows are, as ever."""
    unreadable = "yesterday"
    write_day(
        tmp_path / "exports", "2026-03-01",
        [row("gone", "v1", time=unreadable), row("stays", "v1", time=unreadable), row(None, "v1"), row("stays", "v1")],
    )  # fmt: skip
    users, counts = _prepared(tmp_path, _source(tmp_path, {user_fingerprint("gone"): NOON_MS}))
    assert (users, counts.read, counts.events) == (["stays"], 3, 1)
    assert counts.broken == {"timestamp": 1, "user_id": 1}


def test_users_that_model_servers_forgot_are_left_out(tmp_path: Path) -> None:
    write_day(tmp_path / "exports", "2026-03-01", [row("gone", "v1"), row("stays", "v1")])
    models = FileStore(tmp_path / "models")
    models.replace(SERVERS_KEY, encode({user_fingerprint("gone"): NOON_MS}), tag="")
    assert _learnt(tmp_path, _source(tmp_path, {})) == (["stays"], 1, 0)


def test_list_only_grows(tmp_path: Path) -> None:
    """Each user has the latest time; the same users leave the object as it is."""
    store = FileStore(tmp_path)
    add_erasures(store, {b"a": 2, b"b": 5})
    add_erasures(store, {b"a": 3, b"b": 4})
    add_erasures(store, {})
    assert read_erasures(store) == {b"a": 3, b"b": 5}
    before = (tmp_path / KEY).stat().st_ino
    add_erasures(store, {b"a": 3})
    assert (tmp_path / KEY).stat().st_ino == before


def test_list_is_no_day(tmp_path: Path) -> None:
    write_day(tmp_path, "2026-03-01", [row("u", "v")])
    add_erasures(FileStore(tmp_path), {b"a": 1})
    window = choose_window(FileStore(tmp_path), last=None, length=30, marker_required=False)
    assert [one.day for one in window.days] == [date(2026, 3, 1)]


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b'{"no mark": 1}', b'{"00": "soon"}'])
def test_list_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, data: bytes) -> None:
    """Without it nobody knows who must not be trained on."""
    (tmp_path / KEY).write_bytes(data)
    with pytest.raises(OSError, match=f"^file://{tmp_path}/{KEY} is no list of erased users: "):
        read_erasures(FileStore(tmp_path))
