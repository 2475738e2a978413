"""Stage scan: find the images and know them by content."""
