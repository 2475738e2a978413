"""Preparing a dataset: the stages in their order, planned and run, and what a version brings along.

That is its exported tiles, its report with thumbnails, and the epochs of a training on it.
"""
