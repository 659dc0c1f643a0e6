import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelstore.artefact import FORMAT, MANIFEST, ArtefactError, read, write
from recsvc.rollout.acceptance_checks import check_model
from tests.modelstore.support.artefacts import GOLDEN, reseal
from tests.recsvc.support.models import is_mapped, random_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(random_model(), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, name: str, array: "np.ndarray[Any, Any]") -> None:
    """Replace an array and its entry in the manifest, as a faulty trainer would have written it."""
    np.save(folder / name, array)
    reseal(folder, name)


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
    assert is_mapped(read(folder).video_factors)


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


def header(text: str, body: bytes = b"") -> bytes:
    """Return an array file of this header."""
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


@pytest.mark.parametrize(
    "data",
    [
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 2500000), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (12,), }", b"short"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 12), }", bytes(48)),
        header("{'descr': '|S0', 'fortran_order': False, 'shape': (12,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (12,), 'more': 1}", bytes(48)),
        header("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (12,), }", bytes(96)),
        header("__import__('os').abort()", bytes(48)),
        header("(" * 900),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x02\x00" + bytes(200),
        b"\x93NUMPY\x01\x00",
    ],
)
def test_odd_headers_are_refused_before_anything_is_allocated(folder: Path, data: bytes) -> None:
    (folder / "user_biases.npy").write_bytes(data)
    reseal(folder, "user_biases.npy")

    assert refusal(folder) == "content"


@pytest.mark.parametrize("name", ["users", "videos", "authors", "tags"])
@pytest.mark.parametrize("odd", [b"\xff\xfe", b"\x80", b"z\n", b"z\x7f", b"z\xc2\x85", b"z\0z", b"z" * 129, b"\xc3"])
def test_identifiers_that_nobody_could_name_are_refused(folder: Path, name: str, odd: bytes) -> None:
    ids = np.load(folder / f"{name}.npy")
    rewrite(folder, f"{name}.npy", np.sort(np.concatenate((ids[1:].astype("S130"), np.array([odd])))))

    assert refusal(folder) == "content"


def test_an_empty_identifier_is_refused(folder: Path) -> None:
    ids = np.load(folder / "users.npy")
    rewrite(folder, "users.npy", np.concatenate((np.array([b""], ids.dtype), ids[1:])))

    assert refusal(folder) == "content"


def test_identifiers_of_all_languages_are_read(folder: Path) -> None:
    ids = np.load(folder / "users.npy")
    own = np.array(sorted("ü\u20ac\U0001f600"[number % 3] + f"{number:03}" for number in range(len(ids))))
    rewrite(folder, "users.npy", np.sort(np.char.encode(own, "utf-8")))

    assert read(folder).users.row("ü000") >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": 0},
        {"user_count": 10**18},
        {"interaction_count": 10**30},
        {"data_until": "0001-01-01T00:00:00+14:00"},
        {"trained_at": "9999-12-31T23:59:59-12:00"},
        {"algorithm": "x" * 10**6},
        {"metrics": {"x": float("inf")}},
        {"popularity_weight": 1e308},
        {"popularity_weight": float("nan")},
        {"popularity_floor": 1e-320},
        {"popularity_half_life_s": 1e-300},
        {"files": {"../../x.npy": {"size": 1, "sha256": "0"}}},
        {"files": {"/etc/passwd": {"size": 1, "sha256": "0"}}},
    ],
)
def test_odd_manifests_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    change_manifest(folder, **changes)

    refusal(folder)


@pytest.mark.parametrize("name", ["user_factors.npy", "video_factors.npy", "popularity.npy", "video_biases.npy"])
def test_numbers_that_overflow_are_refused_by_whoever_reads(folder: Path, name: str) -> None:
    """So by those who have written the model as well."""
    rewrite(folder, name, np.full_like(np.load(folder / name), 3e38))

    assert refusal(folder) == "content"


ARRAYS = sorted(path.name for path in (GOLDEN / "format-1").glob("*.npy"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(ARRAYS), data=st.data())
def test_a_tampered_artefact_is_refused_or_a_good_model(folder: Path, name: str, data: st.DataObject) -> None:
    """Bytes changed, removed or put in anywhere, and the manifest made to fit: nothing else is raised, ever."""
    path = folder / name
    before = path.read_bytes()
    start = data.draw(st.integers(0, len(before)) | st.integers(0, 128))
    removed = data.draw(st.integers(0, 16))
    added = data.draw(st.binary(max_size=16) | st.sampled_from([b"9" * 8, b"(1, 2)", b"'<f8'", bytes(4), b"\xff" * 4]))
    path.write_bytes(before[:start] + added + before[start + removed :])
    reseal(folder, name)
    reason = "content"
    try:
        check_model(read(folder))
    except ArtefactError as error:
        reason = error.reason
    finally:
        path.write_bytes(before)
        reseal(folder, name)
    assert reason in {"content", "canary"}
