"""Compares training strategies and sharings by how well their supernets rank architectures, at equal training budgets.

    python -m benchmarks.ranking --processes 2      # stopped? run it again to resume
    python -m benchmarks.ranking --only tries       # attempts to improve the best strategy
    python -m benchmarks.ranking --report           # only write the report of finished runs

On each truth task (benchmarks/truth: every architecture of a small space trained alone, with two seeds) one supernet is
trained per method and seed, all with equally many forward and backward passes. Then every architecture is evaluated
with inherited, calibrated weights on the validation split, and the ranking is compared with the truth. Stage 1 compares
strategies with entangled weights, stage 2 compares sharings with the two strategies that ranked best.

Each run is one line of results/ranking.jsonl, written when it ends; a run with a line is not repeated.
"""
