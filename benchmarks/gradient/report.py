"""stub to be replaced"""
from pathlib import Path
PILOT_SEED = 100
def write(truths, rows, path: Path, *, budgets) -> None:
    return
