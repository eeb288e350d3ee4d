"""Making a trained network smaller."""
