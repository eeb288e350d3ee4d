"""Objectives, limits, and comparison by several objectives."""
