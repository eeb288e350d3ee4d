"""Figures, each a pure function from values to a Plotly figure. Units come from the metrics' names: see `nas.units`."""
