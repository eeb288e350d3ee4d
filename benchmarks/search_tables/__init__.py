"""Searches in published tables with few evaluations, scored by their share of the true hypervolume.

    python -m benchmarks.search_tables DATA_FOLDER --processes 2     # stopped? run it again to resume
    python -m benchmarks.search_tables DATA_FOLDER --report          # only write the report of finished runs

DATA_FOLDER holds nasbench201_accuracy.parquet, nasbench201_latency.parquet, nasbench_macro.parquet,
nasbench_graph.parquet and accel_nasbench.parquet. Searchers were developed on some problems and are judged on the
others; `problems` lists both. No search knows an objective before evaluation. Each run (one method, problem and seed)
is one line of results/search_tables.jsonl, written when it ends.
"""
