"""Dataset versions: what training pins."""
