"""What storing evaluations costs: beside Optuna at equal durability, in parts, and with eight writers at once.

    python -m benchmarks.storage [alone schema writers] [--rounds 20] [--directory FOLDER]

Parts can be measured one by one: each stores its figures in benchmarks/results/storage.jsonl, and the report is made of
the last figures of every part.
"""
