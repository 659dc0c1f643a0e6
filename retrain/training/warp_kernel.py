"""Runs passes of WARP (Weston, Bengio, Usunier: "WSABIE", 2011) as LightFM does, in a fraction of the time.

On one thread a pass takes the same steps as LightFM's own, with the same random numbers, until rounding decides a
comparison otherwise. LightFM's code allows for features, two kinds of optimiser and regularisation, takes its steps in
double precision, and is built for the oldest processor that it may run on. Here users and videos are their own
features, as in all that this package trains, so that a step is a plain loop over their factors, and Numba compiles it
for the processor at hand. That takes a second or two, once where it can be kept on disk, else in each run.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrain.numba_cache import compiled

MAX_LOSS: Final = np.float32(10)
"""A step's loss at most, as LightFM clips it."""
REORDERED: Final = ("reassoc", "nsz", "contract")
"""Sums may be added up in any order, or no vector instructions could be used; what is not finite stays so."""
MARGIN: Final = np.float32(1)
"""What is liked should score so much higher than what is not."""


class Examples(NamedTuple):
    """Pairs to learn from, n of them."""

    users: NDArray[np.int32]
    videos: NDArray[np.int32]
    weights: NDArray[np.float32]


class Likes(NamedTuple):
    """Liked videos of users: the lists of a CSR matrix, each ascending."""

    offsets: NDArray[np.int32]
    """(U + 1,)."""
    videos: NDArray[np.int32]


class Side(NamedTuple):
    """The parameters of all users, or of all videos, with the sums of squares that Adagrad keeps of their gradients."""

    embeddings: NDArray[np.float32]
    """(rows, d)."""
    embedding_gradients: NDArray[np.float32]
    biases: NDArray[np.float32]
    """(rows,)."""
    bias_gradients: NDArray[np.float32]


class Learner(NamedTuple):
    """The parameters to learn, and the rates of learning."""

    users: Side
    """Of U users."""
    videos: Side
    """Of V videos."""
    learning_rate: np.float32
    """Of Adagrad."""


def learn(
    learner: Learner,
    examples: Examples,
    likes: Likes,
    *,
    most_drawn: int,
    random: np.random.RandomState,
    threads: int,
) -> None:
    """Take a step for each example, in random order: once over all of them, in place.

    Args:
        learner: What learns.
        examples: What to learn from.
        likes: What is not drawn as a negative.
        most_drawn: Videos that are drawn for an example, at most, until one scores too high.
        random: Of the order and of what is drawn.
        threads: Above one they share what is learnt without locks (Niu et al.: "Hogwild!", 2011).
    """
    order = np.arange(len(examples.users), dtype=np.int32)
    random.shuffle(order)
    seeds = random.randint(np.iinfo(np.int32).max, size=threads).astype(np.uint32)
    ranks = np.maximum(1, (len(learner.videos.biases) - 1) // np.arange(1, most_drawn + 1))
    losses = np.log(ranks).astype(np.float32)

    def work(places: NDArray[np.int32], seed: np.uint32) -> None:
        part = Examples(examples.users[places], examples.videos[places], examples.weights[places])
        _learn(learner, part, likes, losses, seed)

    (own, *others) = np.array_split(order, threads)
    with ThreadPoolExecutor(threads) as pool:
        working = pool.map(work, others, seeds[1:])
        work(own, seeds[0])
        for _ in working:
            pass  # raises what a thread raised


def load() -> None:
    """Load or compile the passes, once a process: else the first pass does."""
    rows, values, table = np.empty(0, np.int32), np.empty(0, np.float32), np.empty((0, 0), np.float32)
    side = Side(table, table, values, values)
    likes = Likes(np.zeros(1, np.int32), rows)
    _learn(Learner(side, side, np.float32(0)), Examples(rows, rows, values), likes, values, np.uint32(0))


@compiled(*REORDERED)
def _score(learner: Learner, user: int, video: int) -> np.float32:
    users, videos = learner.users, learner.videos
    score = users.biases[user] + videos.biases[video]
    for factor in range(users.embeddings.shape[1]):
        score += users.embeddings[user, factor] * videos.embeddings[video, factor]
    return np.float32(score)


@compiled(*REORDERED)
def _turned(seed: np.uint32) -> np.uint32:
    """Return the next seed (a linear congruential generator)."""
    return np.uint32(seed * np.uint32(1103515245) + np.uint32(12345))


@compiled(*REORDERED)
def _tempered(seed: np.uint32) -> np.uint32:
    """Return the random number of a seed, its bits mixed as the Mersenne twister does (Matsumoto, Nishimura, 1998)."""
    bits = np.uint32(seed ^ (seed >> np.uint32(11)))
    bits ^= np.uint32((bits << np.uint32(7)) & np.uint32(0x9D2C5680))
    bits ^= np.uint32((bits << np.uint32(15)) & np.uint32(0xEFC60000))
    return np.uint32((bits ^ (bits >> np.uint32(18))) >> np.uint32(1))


@compiled(*REORDERED)
def _is_liked(likes: Likes, user: int, video: int) -> bool:
    low, high = likes.offsets[user], likes.offsets[user + 1]
    while low < high:
        middle = (low + high) >> 1
        if likes.videos[middle] < video:
            low = middle + 1
        else:
            high = middle
    return bool(low < likes.offsets[user + 1] and likes.videos[low] == video)


@compiled(*REORDERED)
def _move_bias(side: Side, row: int, gradient: np.float32, rate: np.float32) -> None:
    side.biases[row] -= rate / np.sqrt(side.bias_gradients[row]) * gradient
    side.bias_gradients[row] += gradient * gradient


@compiled(*REORDERED)
def _step(learner: Learner, user: int, liked: int, drawn: int, loss: np.float32) -> None:
    """Move the liked video nearer to the user, and the drawn one further away."""
    users, videos, rate = learner.users, learner.videos, learner.learning_rate
    _move_bias(videos, liked, -loss, rate)
    _move_bias(videos, drawn, loss, rate)
    _move_bias(users, user, loss, rate)
    for factor in range(users.embeddings.shape[1]):
        of_user = users.embeddings[user, factor]
        of_liked, of_drawn = videos.embeddings[liked, factor], videos.embeddings[drawn, factor]
        for_videos, for_user = loss * of_user, loss * (of_drawn - of_liked)
        sum_user = users.embedding_gradients[user, factor]
        sum_liked, sum_drawn = videos.embedding_gradients[liked, factor], videos.embedding_gradients[drawn, factor]
        users.embeddings[user, factor] = of_user - rate / np.sqrt(sum_user) * for_user
        videos.embeddings[liked, factor] = of_liked + rate / np.sqrt(sum_liked) * for_videos
        videos.embeddings[drawn, factor] = of_drawn - rate / np.sqrt(sum_drawn) * for_videos
        users.embedding_gradients[user, factor] = sum_user + for_user * for_user
        videos.embedding_gradients[liked, factor] = sum_liked + for_videos * for_videos
        videos.embedding_gradients[drawn, factor] = sum_drawn + for_videos * for_videos


@compiled(*REORDERED)
def _learn(learner: Learner, examples: Examples, likes: Likes, losses: NDArray[np.float32], seed: np.uint32) -> None:
    """Take a step for each example; `losses` has one for each number of videos that may be drawn for it."""
    for user, liked, weight in zip(examples.users, examples.videos, examples.weights):  # noqa: B905  # Numba has no strict
        highest = _score(learner, user, liked) - MARGIN
        for loss in losses:
            seed = _turned(seed)
            drawn = int(_tempered(seed) % len(learner.videos.biases))
            if _score(learner, user, drawn) > highest and not _is_liked(likes, user, drawn):
                _step(learner, user, liked, drawn, min(MAX_LOSS, weight * loss))
                break
