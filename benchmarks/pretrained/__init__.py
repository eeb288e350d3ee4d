"""Compresses trained models: compares our methods with common tools on the same data, budgets and metrics."""
