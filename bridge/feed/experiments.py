"""Assigns users to variants of an experiment, and says what each variant changes.

Assignment is a pure function of the experiment's name and the user, so that a user keeps a variant on every
replica and over restarts, and a variant whose share grows keeps the users that it had.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from servicekit.configuration.setting_types import Number
from servicekit.grpc.errors import Violation, invalid_argument
from servicekit.inputs.json_fields import JsonObject

MAX_VARIANTS: Final = 20
"""Variants are metric tags, which must stay few."""
_BUCKETS: Final = 2**64


class Algorithm(StrEnum):
    """Rankers of the pages of a variant."""

    LIGHTFM = auto()
    TRENDING = auto()


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Safe as a metric tag."""


class Parameters(BaseModel):
    """Changes of a variant to LightFM's ranking."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    diversity: Number = Field(0.0, ge=0, le=1)
    """As `RecommendRequest.diversity`."""


class Variant(BaseModel):
    """One arm of an experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    share: Number = Field(ge=0, le=1)
    """Share of all users; 0 for a variant that only callers choose."""
    algorithm: Algorithm = Algorithm.LIGHTFM
    parameters: Parameters = Parameters()


class Experiment(BaseModel):
    """An experiment; users beyond the sum of all shares get no variant."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=MAX_VARIANTS)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if len({variant.id for variant in self.variants}) < len(self.variants):
            raise ValueError("two variants have the same id")
        if sum(variant.share for variant in self.variants) > 1 + 1e-9:
            raise ValueError("the shares add up to more than 1")
        return self


def load_experiment(path: Path) -> Experiment:
    """Read an experiment from a JSON file; OSError when there is none, ValueError in one line when it is wrong."""
    try:
        text = path.read_bytes()
        JsonObject(text, unique=True)
        return Experiment.model_validate_json(text)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors())
        raise ValueError(f"{path}: {'; '.join(problems)}") from None
    except ValueError as error:  # what is no JSON at all
        raise ValueError(f"{path}: file: {error}") from None


@dataclass(frozen=True, slots=True)
class Assignment:
    """The way to make a user's pages; the default is that of users outside of any experiment."""

    variant_id: str = ""
    algorithm: Algorithm = Algorithm.LIGHTFM
    diversity: float = 0.0


NO_EXPERIMENT: Final = Assignment()


@dataclass(slots=True)
class Experiments:
    """Assigns users to the variants of the experiment that runs, if any."""

    experiment: Experiment | None = None
    _arms: dict[str, Assignment] = field(default_factory=dict, init=False)
    _borders: Sequence[tuple[float, Assignment]] = field(default=(), init=False)

    def __post_init__(self) -> None:
        variants = self.experiment.variants if self.experiment else ()
        self._arms = {one.id: Assignment(one.id, one.algorithm, one.parameters.diversity) for one in variants}
        borders = accumulate(variant.share for variant in variants)
        self._borders = tuple(zip(borders, self._arms.values(), strict=True))

    def arm(self, user_id: str, wanted_id: str = "") -> Assignment:
        """Return the user's arm, or the arm that the caller asks for; INVALID_ARGUMENT when that is unknown.

        Args:
            user_id: The user; an anonymous one, without an id, is in no experiment.
            wanted_id: A variant in place of the assigned one, or empty.
        """
        if wanted_id:
            arm = self._arms.get(wanted_id)
            if arm is None:
                raise invalid_argument(Violation("experiment_variant_id", f"{wanted_id!r} is no running variant"))
            return arm
        if not self._borders or not user_id:
            return NO_EXPERIMENT
        position = self._position(user_id)
        return next((arm for border, arm in self._borders if position < border), NO_EXPERIMENT)

    def _position(self, user_id: str) -> float:
        """Return the user's position in 0..1, independently for each experiment."""
        name = self.experiment.id if self.experiment else ""
        digest = hashlib.blake2b(f"{name}\n{user_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") / _BUCKETS
