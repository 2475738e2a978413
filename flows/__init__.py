"""The flows a person can run, and the tilewright command."""
