"""All nemeses there are, in the order in which a run meets them."""

from typing import Final

from tests.chaos.nemeses.connections import ReconnectStorm, SlowLoris
from tests.chaos.nemeses.dependencies import FullDisk, HungAgentName, HungEndpointName, HungStore
from tests.chaos.nemeses.inputs import ForgedPageTokens, ForgedTokens
from tests.chaos.nemeses.nemesis import Nemesis
from tests.chaos.nemeses.poison import PoisonMessages, PoisonRows
from tests.chaos.nemeses.processes import BridgeRestart, FollowerKilling, Killing, Stall, WorkerTermination, WrongClock

NEMESES: Final[tuple[type[Nemesis], ...]] = (
    ForgedPageTokens,
    ForgedTokens,
    PoisonRows,
    PoisonMessages,
    SlowLoris,
    HungAgentName,
    HungStore,
    FullDisk,
    WrongClock,
    Stall,
    WorkerTermination,
    FollowerKilling,
    Killing,
    HungEndpointName,
    BridgeRestart,
    ReconnectStorm,
)
BY_NAME: Final = {one.name: one for one in NEMESES}


def summary(nemesis: type[Nemesis]) -> str:
    """Return what it does, in a line."""
    return (nemesis.__doc__ or "").partition("\n")[0]
