"""Thumbnails: one small JPEG per source, kept in the store for reports."""
