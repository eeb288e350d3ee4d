"""Which training strategy and which sharing rank architectures best, at an equal budget of training.

    python -m benchmarks.ranking --processes 2      # stopped? the same command goes on where it was
    python -m benchmarks.ranking --only tries       # what may lift the ranks of the best strategy
    python -m benchmarks.ranking --report           # only write the report of the rows there are

On each truth task (benchmarks/truth: every architecture of a small space trained alone, with two seeds) a supernet is
trained once for each method and seed, with as many forward and backward passes for all. Then every architecture is
evaluated with inherited, calibrated weights on the validation split, and the order is set against the truth. Stage 1
compares strategies with entangled weights, stage 2 the sharings with the two strategies that ranked best.

Each run is one line of results/ranking.jsonl, written when it ends; a run whose line is there is not done again.
"""
