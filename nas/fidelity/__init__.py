"""Searches that spend little on most configurations: by budget (Hyperband) and by cost (CARBS).

`Hyperband` tries many configurations with small budgets and few with large ones, and its largest budget can be raised
later; `nas.fidelity.architectures.architecture_search` runs it over the stand-alone trainings of a space.
"""

from nas.fidelity.deepening import REUSES
from nas.fidelity.hyperband import Bracket, Hyperband, Outcome, Rung
from nas.fidelity.ledger import Ledger, Trial, cost, cost_going_on

__all__ = ["REUSES", "Bracket", "Hyperband", "Ledger", "Outcome", "Rung", "Trial", "cost", "cost_going_on"]
