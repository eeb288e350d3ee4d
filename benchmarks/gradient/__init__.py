"""What gradient search finds, at the budget of a supernet or of training a few networks alone.

    python -m benchmarks.gradient --processes 2     # stopped? the same command goes on where it was
    python -m benchmarks.gradient --report          # only write the report of the rows there are

On each truth task (benchmarks/truth: every architecture of a small space trained alone, with two seeds) each method
learns a distribution over the architectures, with as many forward and backward passes for all, in one of two ways:

- joint: from a new supernet, weights and architecture in turn, each from its half of the training examples;
- queried: a supernet is trained by a strategy with half of the passes, and stays as it is while the architecture
  learns from it with the other half.

Then what the distribution proposes is looked up in the truth: the architecture derived from it, and the best by
inherited metric of a few drawn from it. Each run is one line of results/gradient.jsonl.
"""
