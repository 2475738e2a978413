"""The demo: four photographs, a tiny random model and a config."""
