"""Weight-sharing supernets over plain PyTorch modules."""

from supernets.errors import BuildError, MemoryLimitError, ShapeError, SupernetError
from supernets.layout import Blocks, Centre, Grid, Parts
from supernets.opening import Opened
from supernets.optim import Optimizer, OptimizerConfig
from supernets.planning import Plan
from supernets.profile import Profile, profile_network
from supernets.sharing import Balanced, Entangled, Multiplexed, Routed, Sharing, Split
from supernets.structure import ensemble, keep, one_of, recursive, stack, tie
from supernets.supernet import Supernet
from supernets.survey import Coverage

__all__ = [
    "Balanced",
    "Blocks",
    "BuildError",
    "Centre",
    "Coverage",
    "Entangled",
    "Grid",
    "MemoryLimitError",
    "Multiplexed",
    "Opened",
    "Optimizer",
    "OptimizerConfig",
    "Parts",
    "Plan",
    "Profile",
    "Routed",
    "ShapeError",
    "Sharing",
    "Split",
    "Supernet",
    "SupernetError",
    "ensemble",
    "keep",
    "one_of",
    "profile_network",
    "recursive",
    "stack",
    "tie",
]
