"""Stage crops: full images, detail tiles and context tiles."""
