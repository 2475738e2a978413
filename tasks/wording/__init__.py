"""Pure text: where prompts come from, which one is drawn and how it is varied."""
