"""Pure pixels: decoding, geometry and measurements."""
