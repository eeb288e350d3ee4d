"""Every way of sharing weights by the contract."""

from typing import ClassVar

import pytest

from supernets.sharing import SHARINGS, Sharing, sharing
from supernets.spelling import SpellingError
from tests.contracts.sharing import SharingContract

TEXTS = (
    *(name for name in SHARINGS if name not in ("routed", "lowrank")),
    *(
        f"routed(experts={experts}, per={per}, mixed=1.*.2.*, hidden=16)"  # the toy model has no feed-forward names
        for experts in (1, 2, 4)
        for per in ("layer", "neuron")
    ),
    "routed(mixed=0.*+1.*.2.*, hidden=16, init=copies)",
    "split(groups=width:8+16|12;depth:1|2)",
    "split(models=3, until=0.25, restart=yes)",
    "balanced(models=2, by=width)",
)
"""What each is tried with."""


@pytest.mark.parametrize("text", TEXTS)
class TestEverySharing(SharingContract):
    @pytest.fixture
    def method(self, text: str) -> Sharing:
        return sharing(text)


@pytest.mark.parametrize("text", ["lowrank", "lowrank(rank=2, alpha=8)", "lowrank(adapted=1.*+2.*, rank=4)"])
class TestLowRank(SharingContract):
    """It is made for trained weights: beside random ones that are frozen it takes longer to learn something."""

    teaching: ClassVar[dict[str, object]] = {"strategy": "sandwich(distil=none)", "steps": 240}

    @pytest.fixture
    def method(self, text: str) -> Sharing:
        return sharing(text)


def test_an_unknown_sharing_lists_the_known_ones() -> None:
    with pytest.raises(SpellingError, match=r"no sharing is called 'split up': choose one of entangled"):
        sharing("split up")
