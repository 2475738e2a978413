"""The work: one package per stage."""
