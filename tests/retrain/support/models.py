"""A small model to publish."""

from datetime import UTC, datetime

import numpy as np

from modelstore.artefact import Catalogue, Manifest, Model, RowLists
from modelstore.id_map import IdMap

NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)


def model(*, factor: float = 1.0, until: datetime = NOW) -> Model:
    """Return a model of two users and two videos."""
    ones = np.ones(2, np.float32)
    return Model(
        manifest=Manifest(
            version="unnamed", algorithm="lightfm", trained_at=NOW, data_until=until,
            interaction_count=1, user_count=2, video_count=2, dimensions=1,
        ),
        users=IdMap.build(["a", "b"]),
        videos=IdMap.build(["v", "w"]),
        user_factors=np.full((2, 1), factor, np.float32),
        user_biases=ones,
        video_factors=np.ones((2, 1), np.float32),
        video_biases=ones,
        popularity=ones,
        seen=RowLists(np.array([0, 1, 1]), np.array([1], np.int32)),
        catalogue=Catalogue(
            authors=IdMap.build([]), author_rows=np.full(2, -1, np.int32),
            tags=IdMap.build([]), tag_rows=RowLists(np.zeros(3, np.int64), np.empty(0, np.int32)),
            durations_ms=np.full(2, -1, np.int64), published_at_ms=np.full(2, -1, np.int64),
        ),
    )  # fmt: skip
