"""From any pixel mode to 8-bit sRGB, by stated rules.

* 16-bit grey is scaled (white is 65535, or 4095 in a 12-bit TIFF), never clipped.
* Floating point grey must lie in 0..1 and is taken as display-referred; anything else is refused.
* 32-bit integer grey must lie in 0..65535 and counts as 16-bit; anything else is refused.
* 16-bit colour is cut to its high byte (as Pillow's reader does it).
* Transparency, also of palettes, is composited over white: web graphics are drawn for a white page.
* CMYK, YCbCr, LAB and palettes are converted by Pillow; Adobe's inverted CMYK is put right by it.
* An embedded ICC profile that is not sRGB is converted (relative colorimetric, black point
  compensated); one that is broken, or made for other channels than the image has, is ignored.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from tasks.imaging.header import FORMAT_ERRORS, ImageError

_CHANNELS = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = ("1", "L", "LA", "La")
SIXTEEN_BIT_WHITE = 65535
# Profiles called sRGB differ by a level or two; such a conversion would only cost time.
_SAME_LEVELS = 2


def to_srgb(image: Image.Image, white: int | None = None) -> Image.Image:
    """Converts a loaded image to 8-bit sRGB without alpha; raises ImageError when it cannot.

    `white` is the full scale of grey with more than 8 bits; else the image is asked (a part of it
    cannot tell).
    """
    profile = image.info.get("icc_profile")
    image = _eight_bit(image, white)
    grey = image.mode in _GREY_MODES
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    rgb = convert_profile(image, profile, grey=grey)
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def convert_profile(image: Image.Image, profile: bytes | None, *, grey: bool) -> Image.Image:
    """Converts an 8-bit image to RGB through its ICC `profile`, if it has a useful one."""
    # A profile for other channels than the pixels have is a leftover of some conversion.
    if image.mode == "CMYK":
        allowed: tuple[str, ...] = ("CMYK",)
    else:
        allowed = ("L", "RGB") if grey else ("RGB",)
    channels = _profile_channels(profile) if profile else None
    if profile is None or channels not in allowed:
        return image.convert("RGB")
    transform = _transform(profile, channels)
    image = image.convert(channels)
    return image.convert("RGB") if transform is None else transform.apply(image)


def is_srgb(profile: bytes | None) -> bool:
    """Whether RGB pixels with this ICC profile can be taken as sRGB as they are."""
    if not profile or _profile_channels(profile) != "RGB":
        return True
    return _transform(profile, "RGB") is None


def white_level(image: Image.Image) -> int:
    """Full scale of a grey image with more than 8 bits; only a TIFF can say it is not 65535."""
    tags = getattr(image, "tag_v2", None)
    try:
        bits = int(tags[258][0]) if tags else 16
    except FORMAT_ERRORS:
        bits = 16
    return (1 << bits) - 1 if 8 < bits < 16 else SIXTEEN_BIT_WHITE


@lru_cache(maxsize=32)
def _profile_channels(profile: bytes) -> str | None:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError):
        return None
    return _CHANNELS.get(str(opened.profile.xcolor_space))


# Shared by threads: lcms2 copies its one-pixel cache for every call, the rest is read only.
@lru_cache(maxsize=32)
def _transform(profile: bytes, channels: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion to sRGB, or None when it changes nothing or cannot be built."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            channels,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return None
    if channels == "CMYK":
        return transform
    ramp = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(27, 27, 3)
    probe = Image.fromarray(cube if channels == "RGB" else cube[..., 0])
    change = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
    return transform if np.abs(change).max() > _SAME_LEVELS else None


def _eight_bit(image: Image.Image, white: int | None) -> Image.Image:
    """Brings 16-bit, integer and floating point grey to mode L; other modes stay as they are."""
    if image.mode == "F":
        values = np.asarray(image)
        # NaN fails the comparison too.
        if not (values.min() >= 0 and values.max() <= 1):
            raise ImageError(
                f"floating point samples from {values.min():g} to {values.max():g}: "
                "only 0..1 has a known meaning; save it as 8 or 16 bits"
            )
        return Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled_grey(np.asarray(image), white or white_level(image)))
    return image


def _scaled_grey(values: np.ndarray, white: int) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > white:
        raise ImageError(
            f"integer samples from {low} to {high}: only 0..{white} has a known meaning; "
            "save it as 8 or 16 bits"
        )
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
