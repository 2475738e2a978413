"""Garbage collection: what the store keeps, and why; marking and deleting the rest."""
