"""Lineage: where a model comes from, kept with its run and readable without the dataset."""
