"""Every way of sharing weights by the contract."""

import pytest

from supernets.sharing import SHARINGS, Sharing, sharing
from supernets.spelling import SpellingError
from tests.contracts.sharing import SharingContract

TEXTS = {name: name for name in SHARINGS}
"""What each is tried with on a toy model without feed-forward names."""


@pytest.mark.parametrize("text", list(TEXTS.values()))
class TestEverySharing(SharingContract):
    @pytest.fixture
    def method(self, text: str) -> Sharing:
        return sharing(text)


def test_an_unknown_sharing_lists_the_known_ones() -> None:
    with pytest.raises(SpellingError, match=r"no sharing is called 'split up': choose one of entangled"):
        sharing("split up")
