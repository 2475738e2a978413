"""What runs Tilewright elsewhere, and the demo."""
