"""Export: kept tiles as picture files, each with its prompts beside it."""
