"""Stage captions: the texts that tiles have of their own."""
