"""The GPU of this machine, of which captioning, encoding and training take turns."""
