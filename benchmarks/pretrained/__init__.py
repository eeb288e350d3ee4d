"""Compressing trained models: ours beside the tools people use for it, on the same data, budgets and judge."""
