"""Sample images of a model."""
