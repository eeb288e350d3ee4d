"""Results of gradient search at the budget of a supernet, or of training a few networks alone.

    python -m benchmarks.gradient --processes 2     # stopped? run it again to resume
    python -m benchmarks.gradient --report          # only write the report of finished runs

On each truth task (benchmarks/truth: every architecture of a small space trained alone, with two seeds) each method
learns a distribution over the architectures, all with equally many forward and backward passes, in one of two ways:

- joint: from a new supernet, weights and architecture in turn, each from its half of the training examples;
- queried: a strategy trains a supernet with half of the passes; the architecture then learns from the fixed supernet
  with the other half.

Then the truth is looked up for the architecture derived from the distribution, and for the best by inherited metric of
a few drawn from it. Each run is one line of results/gradient.jsonl.
"""
