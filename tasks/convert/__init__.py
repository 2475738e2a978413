"""Finished models from one output format into another, without training."""
