"""Bytes and truth: the content-addressed store."""
