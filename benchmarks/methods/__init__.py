"""Tests the claims of published methods at small scale: one file per method; `report` writes the table of all."""
