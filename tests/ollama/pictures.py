"""Pictures that look clearly different, as JPEG bytes."""

import io

import numpy as np
from PIL import Image


def picture(seed: int, kind: str = "JPEG") -> bytes:
    """A few large fields of colour; another seed is another picture."""
    fields = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = Image.fromarray(fields).resize((240, 160), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
