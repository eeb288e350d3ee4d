"""Multi-fidelity searches, which spend little on most configurations: by budget (Hyperband) or by cost (CARBS).

`Hyperband` tries many configurations with small budgets and few with large ones, and its largest budget can be raised
later; `nas.fidelity.architectures.architecture_search` runs it over the stand-alone trainings of a space. `Carbs` tunes
the settings of trainings along the front of quality and cost, cheap ones first; `nas.fidelity.settings.SettingsSearch`
runs these trainings and can resume. `nas.stages.tuning` does both for a run.
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
