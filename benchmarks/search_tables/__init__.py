"""What searches find in published tables with few evaluations: the share of the true hypervolume.

    python -m benchmarks.search_tables DATA_FOLDER --processes 2     # stopped? the same command goes on where it was
    python -m benchmarks.search_tables DATA_FOLDER --report          # only write the report of the rows there are

DATA_FOLDER holds nasbench201_accuracy.parquet, nasbench201_latency.parquet, nasbench_macro.parquet,
nasbench_graph.parquet and accel_nasbench.parquet. Searchers were developed on some problems and are judged by the
others, which `problems` names. No search knows either objective before it evaluates. Each run, of one method on one
problem with one seed, is one line of results/search_tables.jsonl, written when it ends.
"""
