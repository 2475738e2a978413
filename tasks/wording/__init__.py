"""Pure text: where prompts come from and which one is drawn."""
