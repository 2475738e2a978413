"""Epochs: which rows of a dataset version an epoch trains, in which order, and what is left out."""
