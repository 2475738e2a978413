"""Stage masks: which parts of a sample count."""
