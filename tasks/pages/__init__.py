"""Pages: what keeps the HTML pages that Tilewright makes safe."""
