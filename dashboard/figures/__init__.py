"""Figures, each a pure function from values to a Plotly figure. Units: `nas.objectives.units`."""
