"""Reads a pickled LightFM model with the identifiers of its rows.

Unpickling runs whatever code the file brings. It happens here only, in a command that people start by hand on files
whose makers they trust; no server imports this package.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
import scipy.sparse as sp
from lightfm import LightFM
from lightfm.data import Dataset

from retrain.embeddings import Embeddings
from retrain.errors import Reason, RunError
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import LARGEST

Ids: TypeAlias = Sequence[Any] | Mapping[Any, int]
"""Identifiers by position, or their positions."""

SHOWN: Final = 3
"""Wrong identifiers that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A model and the values pickled with it, None if missing."""

    model: Any
    users: Ids | None
    videos: Ids | None


def unpickle(path: Path) -> Bundle:
    """Return the model in a pickle: alone, or beside a LightFM `Dataset` or its `mapping()` in a tuple, list or dict.

    Raises:
        RunError: There is no fitted LightFM model in the file.
    """
    try:
        with path.open("rb") as handle:
            content = pickle.load(handle)  # noqa: S301  # asked for by hand, see above
    except OSError as error:
        raise RunError(Reason.SCHEMA, f"{path}: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001  # code of the file's own raises what it likes
        raise RunError(Reason.SCHEMA, f"{path} cannot be unpickled: {type(error).__name__}: {error}") from None
    parts = _parts(content)
    models = [part for part in parts if isinstance(part, LightFM)]
    if len(models) != 1:
        raise RunError(Reason.SCHEMA, f"{path} holds {len(models)} LightFM models instead of one")
    if models[0].item_embeddings is None:
        raise RunError(Reason.SCHEMA, f"the model in {path} was never fitted")
    mappings = [mapping for mapping in map(_mapping, parts) if mapping]
    users, videos = mappings[0] if mappings else (None, None)
    return Bundle(model=models[0], users=users, videos=videos)


def _parts(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content.values())
    # A mapping() is a tuple as well, but its parts hold no model.
    return list(content) if isinstance(content, tuple | list) else [content]


def _mapping(part: Any) -> tuple[Ids, Ids] | None:
    """Return the identifiers of users and videos in a Dataset, or in the result of its `mapping`."""
    if isinstance(part, Dataset):
        part = part.mapping()
    if isinstance(part, tuple) and len(part) == 4 and all(isinstance(one, dict) for one in part):
        return part[0], part[2]
    return None


def read_ids(path: Path) -> Ids:
    """Return identifiers from a file: a JSON list or object of positions, a `.npy` array, or one a line.

    Raises:
        RunError: It is none of these.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            return [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            # Not `splitlines`, which ends lines at characters that may be part of a name.
            return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
        ids = json.loads(text)
    except OSError as error:
        raise RunError(Reason.SCHEMA, f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError, EOFError) as error:
        raise RunError(Reason.SCHEMA, f"{path} does not hold identifiers: {error}") from None
    if not isinstance(ids, list | dict):
        raise RunError(Reason.SCHEMA, f"{path} holds neither a JSON list nor an object")
    return ids


def read_matrix(path: Path) -> Any:
    """Return a sparse matrix that `scipy.sparse.save_npz` wrote; RunError if the file holds none."""
    try:
        matrix = sp.load_npz(path).tocsr()
    except OSError as error:
        raise RunError(Reason.SCHEMA, f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise RunError(Reason.SCHEMA, f"{path} is not a matrix of scipy.sparse.save_npz: {error}") from None
    if matrix.dtype.kind not in "biuf":
        raise RunError(Reason.SCHEMA, f"{path} holds {matrix.dtype} instead of numbers")
    odd = int(np.count_nonzero(~(np.abs(matrix.data.astype(np.float64)) <= LARGEST)))
    if odd:
        raise RunError(Reason.DATA, f"{path} holds {odd:,} numbers that are not finite, or above {LARGEST:g}")
    return matrix


def in_order(ids: Ids, what: str) -> list[str]:
    """Return the identifiers by position, as texts; RunError names invalid ones."""
    if isinstance(ids, Mapping):
        places = [int(one) if _is_whole(one) else -1 for one in ids.values()]
        if sorted(places) != list(range(len(ids))):
            raise RunError(Reason.DATA, f"the positions of the {what} are not 0 to {len(ids) - 1}, each once")
        ids = sorted(ids, key=ids.__getitem__)
    odd = [one for one in ids if not isinstance(one, str) and not _is_whole(one)]
    if odd:  # `None`, `True` and 1.0 are no names, whatever their text
        more = f", and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        listed = ", ".join(repr(one) for one in odd[:SHOWN])
        raise RunError(Reason.DATA, f"{what}: {listed} is neither text nor an integer{more}")
    texts = [str(one) for one in ids]
    bad = [f"{text!r} {problem}" for text in texts if (problem := identifier_problem(text))]
    if bad:
        more = f", and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise RunError(Reason.DATA, f"{what}: {'; '.join(bad[:SHOWN])}{more}")
    if len(set(texts)) != len(texts):
        raise RunError(Reason.DATA, f"{what}: {len(texts) - len(set(texts))} identifiers stand there twice")
    return texts


def _is_whole(one: Any) -> bool:
    return isinstance(one, int | np.integer) and not isinstance(one, bool)


def representations(
    model: Any, users: int, videos: int, *, user_features: Any = None, item_features: Any = None
) -> Embeddings:
    """Return the representations that `LightFM.predict` multiplies, of users and videos in the model's order.

    Args:
        model: A fitted LightFM model.
        users: Number of users.
        videos: Number of videos.
        user_features: (users, features) matrix that it was fitted with; None where each user is its only feature.
        item_features: The same of videos.

    Raises:
        RunError: The numbers do not fit the model.
    """
    _check_shape(model.user_embeddings, users, user_features, "users", "--user-features")
    _check_shape(model.item_embeddings, videos, item_features, "items", "--item-features")
    user_biases, user_factors = model.get_user_representations(user_features)
    video_biases, video_factors = model.get_item_representations(item_features)
    return Embeddings(
        user_factors=np.asarray(user_factors, np.float32),
        user_biases=np.asarray(user_biases, np.float32),
        video_factors=np.asarray(video_factors, np.float32),
        video_biases=np.asarray(video_biases, np.float32),
    )


def _check_shape(embeddings: Any, count: int, features: Any, what: str, option: str) -> None:
    held = len(embeddings)
    if features is None:
        if held != count:
            raise RunError(
                Reason.DATA,
                f"the model holds {held} {what} or features of them, and there are {count} identifiers: "
                f"where it was fitted with features, {option} gives their matrix",
            )
    elif features.shape != (count, held):
        rows, columns = features.shape
        raise RunError(Reason.DATA, f"{option} is of {rows} x {columns} instead of {count} x {held}")
