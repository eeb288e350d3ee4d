"""Results of gradient search among the cells of NAS-Bench-201, judged by their published tables.

    python -m benchmarks.cells DATA_FOLDER             # stopped? run it again to resume
    python -m benchmarks.cells DATA_FOLDER --report    # only write the report of finished runs

DATA_FOLDER holds nasbench201_accuracy.parquet and nasbench201_latency.parquet: all 15,625 cells with their accuracy on
CIFAR-10 after 200 epochs and their latencies. The supernet is a small one of such cells that learns clothes of 14 x 14
grey pixels, so the transfer to CIFAR-10 is part of the measurement:

- methods: the published error of the derived cell, compared with the best of some random cells;
- limits: two simultaneous latency limits, by projection and by an augmented Lagrangian, on the published latencies;
- front, evolution: one run that learns a front for each of several targets, compared with evolution for each target
  with inherited weights, with the same total number of passes through the supernet.

Each run is one line of results/cells.jsonl, written when it ends.
"""
