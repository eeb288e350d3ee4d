"""What gradient search finds among the cells of NAS-Bench-201, whose published tables say what each is worth.

    python -m benchmarks.cells DATA_FOLDER             # stopped? the same command goes on where it was
    python -m benchmarks.cells DATA_FOLDER --report    # only write the report of the rows there are

DATA_FOLDER holds nasbench201_accuracy.parquet and nasbench201_latency.parquet: all 15,625 cells with their accuracy on
CIFAR-10 after 200 epochs and their latencies. The supernet is a small one of such cells that learns clothes of 14 x 14
grey pixels, so how far what it finds there holds on CIFAR-10 is part of what is measured:

- methods: the published error of the derived cell, against the best of some random cells;
- limits: two latencies limited at once, by projection and by an augmented Lagrangian, on the published latencies;
- front, evolution: one run that learns a front for each of several targets, against evolution for each target with
  inherited weights, with as many passes through the supernet in all.

Each run is one line of results/cells.jsonl, written when it ends.
"""
