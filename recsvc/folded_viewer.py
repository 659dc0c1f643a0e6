"""A viewer as the model and later interactions tell."""

from collections.abc import Sequence

import numpy as np

from recsvc.idmap import UNKNOWN
from recsvc.interactions import Interaction
from recsvc.profiles import merge
from recsvc.serving_model import ServingModel
from recsvc.viewers import Viewer, ViewerState


def folded(serving: ServingModel, base: Viewer, known: Sequence[Interaction], recent: Sequence[Interaction]) -> Viewer:
    """Return a viewer with what was done since training; FOLDED_IN only when that says something of taste.

    Args:
        serving: The model to fold into.
        base: The viewer before.
        known: Of these, a trained viewer's from before the model's cut-off count as seen only: training had them.
        recent: These always count.
    """
    cut_off = round(serving.manifest.data_until.timestamp() * 1000) if base.state is ViewerState.TRAINED else 0
    news = merge([one for one in known if one.at_ms >= cut_off], recent)
    everything = merge(known, recent)
    rows = serving.model.videos.rows([one.video_id for one in everything])
    viewer = base._replace(
        seen=np.concatenate((base.seen, rows[rows != UNKNOWN].astype(np.int32))), interactions=everything, row=UNKNOWN
    )
    vector = serving.fold_in.fold(news, base.vector)
    return viewer if vector is None else viewer._replace(state=ViewerState.FOLDED_IN, vector=vector)
