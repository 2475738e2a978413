"""Pure pixels: decoding, geometry, augmentation, masks and measurements."""
