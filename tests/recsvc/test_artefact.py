import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsvc.artefact import FORMAT, MANIFEST, ArtefactError, FileEntry, digest, read, write
from tests.recsvc.models import random_model

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(random_model(), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, name: str, array: "np.ndarray[Any, Any]") -> None:
    """Replace an array and its entry in the manifest, as a faulty trainer would have written it."""
    np.save(folder / name, array)
    reseal(folder, name)


def reseal(folder: Path, name: str) -> None:
    entry = FileEntry(size=(folder / name).stat().st_size, sha256=digest(folder / name))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = entry.model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        read(folder)
    assert str(folder) not in str(caught.value)
    return caught.value.reason


def test_what_is_written_is_read(folder: Path) -> None:
    expected, actual = random_model(), read(folder)

    assert set(actual.manifest.files) == {path.name for path in folder.glob("*.npy")}
    assert actual.manifest.model_copy(update={"files": {}}) == expected.manifest
    for ids in ("users", "videos"):
        assert getattr(actual, ids).array.tolist() == getattr(expected, ids).array.tolist()
    for name in ("user_factors", "user_biases", "video_factors", "video_biases", "popularity"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name))
    for actual_lists, expected_lists in (
        (actual.seen, expected.seen),
        (actual.catalogue.tag_rows, expected.catalogue.tag_rows),
    ):
        np.testing.assert_array_equal(actual_lists.offsets, expected_lists.offsets)
        np.testing.assert_array_equal(actual_lists.rows, expected_lists.rows)
    for name in ("author_rows", "durations_ms", "published_at_ms"):
        np.testing.assert_array_equal(getattr(actual.catalogue, name), getattr(expected.catalogue, name))


def test_arrays_are_mapped_not_copied(folder: Path) -> None:
    """Processes of one machine share the model's memory."""
    assert isinstance(read(folder).video_factors.base, np.memmap)


def test_a_model_without_users_tags_or_authors_is_read(tmp_path: Path) -> None:
    """Empty arrays cannot be mapped, and are fine."""
    write(random_model(users=0, videos=3), tmp_path)

    assert len(read(tmp_path).users) == 0


@pytest.mark.parametrize("version", [1])
def test_every_format_ever_written_still_loads(version: int) -> None:
    model = read(GOLDEN / f"format-{version}")
    expected = json.loads((GOLDEN / f"format-{version}.expected.json").read_text())

    assert model.manifest.format == version <= FORMAT
    row = model.users.row("u2")
    scores = model.lightfm_scores(row) + model.prior()
    best = np.argsort(-scores, kind="stable")
    assert model.videos.ids(best) == expected["videos"]
    np.testing.assert_allclose(scores[best], expected["scores"], atol=1e-6)
    assert model.videos.ids(model.seen[row]) == expected["seen"]
    assert model.catalogue.tags.ids(model.catalogue.tag_rows[0]) == expected["first_tags"]


@pytest.mark.parametrize("name", sorted(path.name for path in (GOLDEN / "format-1").glob("*.npy")))
def test_a_damaged_file_is_refused(folder: Path, name: str) -> None:
    """Whichever file it is: missing, cut short, or one bit flipped."""
    path = folder / name
    data = path.read_bytes()

    path.write_bytes(data[:-1])
    assert refusal(folder) == "size"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert refusal(folder) == "checksum"
    path.unlink()
    assert refusal(folder) == "missing"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("user_factors.npy", np.zeros((12, 5), np.float32)),
        ("video_factors.npy", np.full((60, 4), np.nan, np.float32)),
        ("video_biases.npy", np.full(60, np.inf, np.float32)),
        ("user_biases.npy", np.zeros(12, np.float64)),
        ("videos.npy", np.zeros(60, "S3")),
        ("seen_rows.npy", np.full(120, 60, np.int32)),
        ("seen_rows.npy", np.full(120, -1, np.int32)),
        ("seen_offsets.npy", np.arange(13)[::-1].astype(np.int64)),
        ("author_rows.npy", np.full(60, 7, np.int32)),
        ("author_rows.npy", np.full(60, -2, np.int32)),
    ],
)
def test_content_that_does_not_fit_is_refused(folder: Path, name: str, array: "np.ndarray[Any, Any]") -> None:
    """Checksums that match do not make wrong shapes, types, numbers or rows right."""
    rewrite(folder, name, array)

    assert refusal(folder) == "content"


def test_pickles_are_refused(folder: Path) -> None:
    np.save(folder / "user_biases.npy", np.array([object()] * 12, dtype=object), allow_pickle=True)
    reseal(folder, "user_biases.npy")

    assert refusal(folder) == "content"


@pytest.mark.parametrize("data", [b"", b"not an array"])
def test_files_that_are_no_arrays_are_refused(folder: Path, data: bytes) -> None:
    (folder / "user_biases.npy").write_bytes(data)
    reseal(folder, "user_biases.npy")

    assert refusal(folder) == "content"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format"),
        ({"format": 0}, "format"),
        ({"user_count": -1}, "manifest"),
        ({"user_count": 13}, "content"),
        ({"dimensions": 3}, "content"),
        ({"popularity_weight": float("nan")}, "manifest"),
        ({"popularity_floor": 0.0}, "manifest"),
        ({"trained_at": "2025-09-02T02:30:00"}, "manifest"),
        ({"trained_at": "yesterday"}, "manifest"),
        ({"files": {}}, "missing"),
    ],
)
def test_a_manifest_that_lies_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    change_manifest(folder, **changes)

    assert refusal(folder) == reason


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"format": 1'])
def test_a_manifest_that_is_none_is_refused(folder: Path, data: bytes) -> None:
    (folder / MANIFEST).write_bytes(data)

    assert refusal(folder) == "manifest"


def test_a_folder_without_manifest_is_refused(folder: Path) -> None:
    """It is written last, so its absence means an unfinished write."""
    shutil.copytree(folder, folder.parent / "copy")
    (folder.parent / "copy" / MANIFEST).unlink()

    assert refusal(folder.parent / "copy") == "manifest"
