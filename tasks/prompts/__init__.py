"""Stage prompts: the text that each source trains on."""
