"""The training strategies; `strategy` parses one from text."""

from supernets.spelling import parse
from supernets.steps import Course, Distil, Feedback, Pass, Plan, Step, Strategy, StrategyError
from supernets.strategies.attentive import Attentive
from supernets.strategies.fair import Fair
from supernets.strategies.importance import ImportanceSampling
from supernets.strategies.narrowing import Narrowing
from supernets.strategies.paths import Uniform
from supernets.strategies.progressive import Progressive
from supernets.strategies.sandwich import Sandwich
from supernets.strategies.shrinking import DelayedShrinking
from supernets.strategies.sorting import Sorted
from supernets.strategies.two_stage import TwoStage

__all__ = [
    "STRATEGIES",
    "Attentive",
    "Course",
    "DelayedShrinking",
    "Distil",
    "Fair",
    "Feedback",
    "ImportanceSampling",
    "Narrowing",
    "Pass",
    "Plan",
    "Progressive",
    "Sandwich",
    "Sorted",
    "Step",
    "Strategy",
    "StrategyError",
    "TwoStage",
    "Uniform",
    "strategy",
]

STRATEGIES: dict[str, type[Strategy]] = {
    method.name: method
    for method in (
        Uniform,
        Fair,
        Sandwich,
        Attentive,
        Progressive,
        DelayedShrinking,
        Sorted,
        ImportanceSampling,
        TwoStage,
        Narrowing,
    )
}


def strategy(text: str) -> Strategy:
    """Return the strategy that a text names, such as ``sandwich(num_random=1)``.

    Raises:
        SpellingError: the text names no strategy or setting; the message lists the known ones.
    """
    return parse(text, STRATEGIES, "strategy")
