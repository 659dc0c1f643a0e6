"""Defines the hyperparameters of a model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameters:
    """The parameters of LightFM."""

    loss: Literal["warp", "bpr"]
    factors: int
    learning_rate: float
    threads: int
    """One is reproducible bit for bit on one kind of processor; more share memory without locks (Hogwild)."""
    seed: int
