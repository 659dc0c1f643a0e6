"""The state of training on disk, and in the store of models."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from modelstore.id_map import IdMap
from modelstore.registry import Registry
from modelstore.signature import SigningKey
from retrain.data.prepare import Pairs, Positives
from retrain.training.checkpoint import MANIFEST, Checkpoint, CheckpointError, Description, read, write
from retrain.training.checkpoint_store import FOLDER, KEPT, SIGNATURE, CheckpointStore
from retrain.training.lightfm_trainer import LEARNT, Trainer
from servicekit.storage.object_store import FileStore
from tests.retrain.support.trainers import PARAMETERS, USERS, VIDEOS, positives, trained

AT: Final = datetime(2026, 3, 4, tzinfo=UTC)
USER_IDS: Final = IdMap.build(f"u{number:03}" for number in range(USERS))
VIDEO_IDS: Final = IdMap.build(f"v{number:03}" for number in range(VIDEOS))


def checkpoint(trainer: Trainer, version: str = "20260304T000000Z-a-b") -> Checkpoint:
    description = Description(
        version=version,
        method="m",
        factors=PARAMETERS.factors,
        data_until=AT,
        full_fit_until=AT,
        popularity_weight=0.5,
    )
    return Checkpoint.of(description, trainer.state(), USER_IDS, VIDEO_IDS)


def resumed(saved: Checkpoint, users: IdMap, videos: IdMap) -> Trainer:
    trainer = Trainer(PARAMETERS)
    trainer.restore(saved.state_in(users, videos))
    return trainer


def test_fit_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    """Factors, biases, the optimiser's sums and the random numbers to come are all in it."""
    straight = trained(positives())
    write(checkpoint(straight), tmp_path)
    later = resumed(read(tmp_path), USER_IDS, VIDEO_IDS)
    for trainer in (straight, later):
        trainer.fit(positives(seed=1), range(2), fresh=np.arange(len(positives(seed=1))) < 20, replayed=0.3)
    for name in LEARNT:
        assert getattr(straight.model, name).tobytes() == getattr(later.model, name).tobytes()


def test_rows_follow_the_identifiers_when_others_come_and_go(tmp_path: Path) -> None:
    before = trained(positives(users=range(2, 20), videos=range(3, 25)))
    write(checkpoint(before), tmp_path)
    users = IdMap.build([f"u{number:03}" for number in range(5, USERS)] + ["a", "u", "zz"])
    videos = IdMap.build([f"v{number:03}" for number in range(VIDEOS) if number != 7] + ["a new video"])
    after = resumed(read(tmp_path), users, videos).representations((len(users), len(videos)))
    was = before.representations((USERS, VIDEOS))
    for number in range(5, 20):
        row = users.row(f"u{number:03}")
        np.testing.assert_array_equal(after.user_factors[row], was.user_factors[number])
        assert after.user_biases[row] == was.user_biases[number]
    for number in (3, 6, 8, 24):
        np.testing.assert_array_equal(after.video_factors[videos.row(f"v{number:03}")], was.video_factors[number])
    for unknown in ("a", "u", "zz", "u025"):
        assert not after.user_factors[users.row(unknown)].any()
    assert not after.video_factors[videos.row("a new video")].any()


def test_no_byte_of_a_checkpoint_may_change(tmp_path: Path) -> None:
    description = write(checkpoint(trained(positives())), tmp_path)
    assert not any(name.endswith((".pkl", ".pickle")) for name in description.files)
    for name in description.files:
        path = tmp_path / name
        good = path.read_bytes()
        for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b""):
            path.write_bytes(bad)
            with pytest.raises(CheckpointError, match=name):
                read(tmp_path)
        path.unlink()
        with pytest.raises(CheckpointError, match="cannot be read"):
            read(tmp_path)
        path.write_bytes(good)
    assert read(tmp_path).description == description


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "format is 2"),
        ({"data_until": "yesterday"}, "not valid"),
        ({"files": {}}, "does not name the files"),
        ({"factors": 9}, "not float32"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    write(checkpoint(trained(positives())), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(CheckpointError, match=problem):
        read(tmp_path)


def test_numbers_that_are_not_finite_are_not_gone_on_from(tmp_path: Path) -> None:
    good = checkpoint(trained(positives()))
    arrays = {name: np.array(array) for name, array in good.state.arrays.items()}
    arrays["item_biases"][3] = np.nan
    write(replace(good, state=replace(good.state, arrays=arrays)), tmp_path)
    with pytest.raises(CheckpointError, match="item_biases holds numbers that are not finite"):
        read(tmp_path)


def test_store_keeps_the_newest_checkpoints_of_published_models(tmp_path: Path) -> None:
    """Those of models that are gone go; servers see none of them as a model."""
    store = FileStore(tmp_path / "models")
    checkpoints = CheckpointStore(store)
    trainer = trained(positives())
    names = [f"2026030{day}T000000Z-a-b" for day in range(1, KEPT + 4)]
    for name in names:
        checkpoints.save(checkpoint(trainer, name))
    assert checkpoints.versions() == names[::-1]
    assert Registry(store).versions() == []
    checkpoints.prune([*names[:-1], "another"])
    assert checkpoints.versions() == names[-2 : -2 - KEPT : -1]
    assert {key.split("/")[1] for key in store.list(f"{FOLDER}/")} == set(checkpoints.versions())
    assert checkpoints.load(names[-2]).description.version == names[-2]


def test_signed_store_takes_only_what_its_key_signed(tmp_path: Path) -> None:
    store, key = FileStore(tmp_path), SigningKey.generate()
    saved = checkpoint(trained(positives()))
    version = saved.description.version
    CheckpointStore(store).save(saved)
    with pytest.raises(CheckpointError, match="missing"):
        CheckpointStore(store, key).load(version)
    CheckpointStore(store, SigningKey.generate()).save(saved)
    with pytest.raises(CheckpointError, match="known keys"):
        CheckpointStore(store, key).load(version)
    CheckpointStore(store, key).save(saved)
    assert CheckpointStore(store, key).load(version).description.version == version
    path = tmp_path / FOLDER / version / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"popularity_weight": 0.5', b'"popularity_weight": 9.5'))
    with pytest.raises(CheckpointError, match="known keys"):
        CheckpointStore(store, key).describe(version)
    assert (path.parent / SIGNATURE).is_file()


def test_upload_that_was_cut_short_is_no_checkpoint(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    CheckpointStore(store).save(checkpoint(trained(positives())))
    (tmp_path / FOLDER / "20260304T000000Z-a-b" / MANIFEST).unlink()
    assert CheckpointStore(store).versions() == []


def test_fit_goes_on_where_nobody_is_left_of_those_it_learnt_of(tmp_path: Path) -> None:
    write(checkpoint(trained(positives())), tmp_path)
    strangers = IdMap.build(["x", "y"])
    trainer = resumed(read(tmp_path), strangers, strangers)
    assert not trainer.representations_of(np.arange(2), 2).user_factors.any()
    pairs = Pairs(users=np.arange(2, dtype=np.int32), videos=np.arange(2, dtype=np.int32))
    trainer.fit(Positives(pairs=pairs, weights=np.ones(2, np.float32)), range(2))
    assert trainer.representations_of(np.arange(2), 2).user_factors.any(axis=1).all()
