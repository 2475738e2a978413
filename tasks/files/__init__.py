"""Files: which there are, what is in them, and how their bytes are read."""
