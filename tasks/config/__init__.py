"""The configuration models, their loading and the presets."""
