"""Synthetic photos for all tests: a flat sky above textured ground, in JPEG."""

import io

import cv2
import numpy as np
from PIL import Image

SKY_SHARE = 0.3


def photo_pixels(width: int, height: int, seed: int) -> np.ndarray:
    """(height, width, 3) uint8: the top 30 % is one colour, nothing below it is flat."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(60, 190, (3, 3, 3)).astype(np.float32)
    picture = cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radius = max(1, int(rng.integers(1, max(2, min(width, height) // 6))))
        cv2.circle(picture, centre, radius, rng.uniform(20, 235, 3).tolist(), thickness=-1)
    for cell, strength in ((64, 16), (12, 16), (3, 40)):
        size = (max(2, width // cell), max(2, height // cell))
        grain = rng.normal(0, strength, (size[1], size[0], 3)).astype(np.float32)
        picture += cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    picture[: round(height * SKY_SHARE)] = rng.uniform(120, 220, 3)
    return picture.clip(0, 255).round().astype(np.uint8)


def make_photo(width: int, height: int, seed: int) -> bytes:
    """A JPEG photo; equal arguments give equal bytes, different seeds different photos."""
    out = io.BytesIO()
    Image.fromarray(photo_pixels(width, height, seed)).save(out, "JPEG", quality=90)
    return out.getvalue()
