"""A user as the model and later interactions tell."""

from collections.abc import Sequence

import numpy as np

from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import Interaction
from recsvc.domain.user import User, UserState
from recsvc.live_state.profile import merge
from recsvc.model.serving_model import ServingModel


def folded(serving: ServingModel, base: User, known: Sequence[Interaction], recent: Sequence[Interaction]) -> User:
    """Return a user with what was done since training; FOLDED_IN only when that says something of taste.

    Args:
        serving: The model to fold into.
        base: The user before.
        known: Of these, a trained user's from before the model's cut-off count as seen only: training had them.
        recent: These always count.
    """
    cut_off = round(serving.manifest.data_until.timestamp() * 1000) if base.state is UserState.TRAINED else 0
    news = merge([one for one in known if one.at_ms >= cut_off], recent)
    everything = merge(known, recent)
    rows = serving.model.videos.rows([one.video_id for one in everything])
    user = base._replace(
        seen=np.concatenate((base.seen, rows[rows != UNKNOWN].astype(np.int32))), interactions=everything, row=UNKNOWN
    )
    vector = serving.fold_in.fold(news, base.vector)
    return user if vector is None else user._replace(state=UserState.FOLDED_IN, vector=vector)
