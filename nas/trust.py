"""What a trust report says of a front, in words: whether the order of networks by inherited metrics can be used."""

import math
from dataclasses import dataclass

from nas.records import Trust

RELIABLE_TAU = 0.3
"""Below this rank correlation a supernet's order is too loose to choose networks by."""


@dataclass(frozen=True)
class Verdict:
    """Whether a supernet's ranks can be used, and why, in words."""

    is_reliable: bool
    headline: str
    reason: str


def verdict(trust: Trust) -> Verdict:
    """Read a trust record: ranks are usable when tau's interval excludes 0 and tau is not small."""
    tau = f"Kendall's τ = {trust.tau:.2f}, 95 % interval {trust.tau_low:.2f} to {trust.tau_high:.2f}"
    basis = f"{tau.replace('-', '−')}, from {trust.num_architectures} networks trained on their own."
    if math.isnan(trust.tau) or math.isnan(trust.tau_low):
        reason = f"τ is undefined for these {trust.num_architectures} networks: their errors are all alike."
        return Verdict(False, "Ranks cannot be judged", reason + " Check more networks, or train them longer.")
    remedy = "Train the supernet longer, or confirm the front by stand-alone training before relying on it."
    if trust.tau_low <= 0.0 <= trust.tau_high or trust.tau_high < 0:
        return Verdict(False, "Ranks are not reliable", f"{basis} The order could be chance. {remedy}")
    if trust.tau < RELIABLE_TAU:
        return Verdict(False, "Ranks are not reliable", f"{basis} The order is too loose to choose by. {remedy}")
    strength = "closely" if trust.tau >= 0.7 else "broadly" if trust.tau >= 0.5 else "loosely"
    return Verdict(True, f"Ranks agree {strength}", basis)
