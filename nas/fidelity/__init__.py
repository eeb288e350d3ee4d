"""Searches that spend little on most of what they try: by budget (Hyperband) and by cost (CARBS).

`Hyperband` tries many configurations with small budgets and few with large ones, and its largest budget can be raised
later; `nas.fidelity.architectures.architecture_search` runs it over the stand-alone trainings of a space. `Carbs` tunes
the settings of trainings, cheap ones first, along the front of quality and cost; `nas.fidelity.settings.SettingsSearch`
runs these, and goes on when it was stopped. `nas.stages.tuning` does both for a run.
"""

from nas.fidelity.carbs import Carbs
from nas.fidelity.deepening import REUSES
from nas.fidelity.hyperband import Bracket, Hyperband, Outcome, Rung
from nas.fidelity.ledger import Ledger, Trial, cost, cost_going_on
from nas.fidelity.variables import Linear, Log, Logit

__all__ = [
    "REUSES",
    "Bracket",
    "Carbs",
    "Hyperband",
    "Ledger",
    "Linear",
    "Log",
    "Logit",
    "Outcome",
    "Rung",
    "Trial",
    "cost",
    "cost_going_on",
]
