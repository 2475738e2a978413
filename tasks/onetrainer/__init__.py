"""OneTrainer: its configurations as ours."""
