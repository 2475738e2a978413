"""Which image formats are read, how their files are told apart, and which need an extra."""

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

# Content is sniffed, the file name never asked. A closed list keeps formats that start other
# programs (EPS) or read other files away from folders of unknown images.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF")

EXTRAS = {"HEIC": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
"""Formats that need another package: the module and the package, by the name of the extra."""
_PILLOW_NAMES = {"HEIC": "HEIF", "JXL": "JXL"}

SIGNATURE_BYTES = 64
_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
}
_HEIC_BRANDS = (b"hei", b"hev", b"mif1", b"msf1")


def signature(start: bytes) -> str | None:
    """The format that the first SIGNATURE_BYTES of a file promise, or None."""
    if start[4:8] == b"ftyp":
        # mif1 and msf1 are containers of either; the compatible brands behind them tell.
        if b"avif" in start[8:] or b"avis" in start[8:]:
            return "AVIF"
        return "HEIC" if start[8:].startswith(_HEIC_BRANDS) else None
    return next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), None)


def refusal(name: str) -> str:
    """Why files of a format that needs an extra are refused without it."""
    extra, package = name.lower(), EXTRAS[name][1]
    return f"{name} images need an extra: install tilewright[{extra}] (the package {package})"


def outdated_refusals() -> list[str]:
    """What was said of formats whose package has been installed since."""
    return [refusal(name) for name, (module, _) in EXTRAS.items() if find_spec(module)]


@lru_cache(maxsize=8)
def extra_format(name: str) -> str | None:
    """Pillow's name of a format that needs an extra, its reader registered; None without it."""
    try:
        module = import_module(EXTRAS[name][0])
    except ImportError:
        return None
    if name == "HEIC":
        module.register_heif_opener()
    return _PILLOW_NAMES[name]
