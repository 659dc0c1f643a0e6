"""What is computed from a model is computed once on a machine, and nothing damaged or outdated is served."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelstore.artefact import Model
from recsvc.local_files.derived_files import DerivedFiles
from recsvc.model import derived_arrays
from recsvc.model.derived_arrays import DerivedArrays
from recsvc.model.serving_model import ServingModel
from tests.recsvc.support.models import is_mapped, random_model

COMPUTED = DerivedArrays.computed


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return replace(random_model(), folder=tmp_path)


@pytest.fixture(autouse=True)
def computations(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """Return the models of which this process computes, as a list that grows."""
    found, compute = list[Model](), DerivedArrays.computed

    def counted(model: Model) -> DerivedArrays:
        found.append(model)
        return compute(model)

    monkeypatch.setattr(DerivedArrays, "computed", counted)
    return found


def assert_same(found: DerivedArrays, expected: DerivedArrays) -> None:
    for name, one in found._asdict().items():
        other = getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_it_is_computed_once_and_mapped(model: Model, computations: list[Model], tmp_path: Path) -> None:
    first, second = DerivedArrays.of(model), DerivedArrays.of(model)

    assert len(computations) == 1
    assert_same(first, DerivedArrays.computed(model))
    assert_same(second, first)
    assert is_mapped(first.heads)
    assert str(tmp_path / "derived" / "heads.npy") in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_a_model_without_a_local_copy_keeps_nothing(model: Model, computations: list[Model], tmp_path: Path) -> None:
    for _ in range(2):
        ServingModel.of(replace(model, folder=None))

    assert len(computations) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*DerivedArrays._fields, "description"])
@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, path.stat().st_size - 1), Path.unlink])
def test_damaged_files_are_made_anew(
    model: Model, computations: list[Model], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    DerivedArrays.of(model)
    (path,) = (tmp_path / "derived").glob(f"{name}.*")
    damage(path)

    mended = [DerivedArrays.of(model) for _ in range(2)]
    assert len(computations) == 2
    for one in mended:
        assert_same(one, DerivedArrays.computed(model))


def test_files_that_are_no_arrays_are_made_anew(model: Model, computations: list[Model], tmp_path: Path) -> None:
    """Even with the right checksums: what is kept never speaks against the model."""
    kept = DerivedFiles(
        tmp_path, derived_arrays.FOLDER, model.manifest, (derived_arrays.FORMAT, *derived_arrays.MADE_WITH)
    )

    def fill(folder: Path) -> None:
        for name in DerivedArrays._fields:
            (folder / f"{name}.npy").write_bytes(b"none")

    assert kept.write(fill)

    assert_same(DerivedArrays.of(model), DerivedArrays.computed(model))
    DerivedArrays.of(model)
    assert len(computations) == 2, "one anew, one to compare with"


def test_what_other_code_left_is_made_anew(
    model: Model, computations: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    DerivedArrays.of(model)
    monkeypatch.setattr(derived_arrays, "FORMAT", 0)
    DerivedArrays.of(model)
    DerivedArrays.of(model)

    assert len(computations) == 2


def test_what_cannot_be_kept_serves_all_the_same(model: Model, computations: list[Model], tmp_path: Path) -> None:
    (tmp_path / ".derived").write_bytes(b"in the way")

    assert_same(DerivedArrays.of(model), DerivedArrays.of(replace(model, folder=None)))
    assert len(computations) == 2
