"""Views: a geometry of a source, the key that names its pixels, and the cutting of those pixels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from storage.digest import digest_json, hexkey
from tasks.imaging.decode import DECODER, IMAGING_VERSION
from tasks.imaging.resize import cut, resize

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

Resample = Callable[..., "Pixels"]
"""(image, width, height, box or None) to pixels of that size, as `resize` does it."""


@dataclass(frozen=True, slots=True)
class View:
    """A geometry of a source.

    `rect` is (left, top, width, height): of the source for `full`, which is brought to `target`;
    of the source at size `resized` for the tiles `detail` and `context`, which are cut, never
    scaled again. Sizes are (width, height) in pixels. `scale` is for people and filters, not part
    of the key.
    """

    kind: Literal["full", "detail", "context"]
    scale: float
    resized: tuple[int, int]
    rect: tuple[int, int, int, int]
    target: tuple[int, int]


def view_id(source_id: bytes, view: View) -> bytes:
    """The key of a view: 16 bytes that name its pixels."""
    return digest_json(
        "view/1",
        {
            "source": hexkey(source_id),
            "kind": view.kind,
            "resized": list(view.resized),
            "rect": list(view.rect),
            "target": list(view.target),
            "decoder": DECODER,
            "imaging": IMAGING_VERSION,
        },
    )


def sample_id(view_key: bytes, augmentation: Mapping[str, object] | None = None) -> bytes:
    """The key of a sample: a view with its resolved augmentation values (none: leave them out)."""
    value: dict[str, object] = {"view": hexkey(view_key)}
    if augmentation:
        value["augmentation"] = dict(augmentation)
    return digest_json("sample/1", value)


def view_pixels(image: "Pixels", view: View) -> "Pixels":
    """The (height, width, 3) uint8 pixels of one view of a decoded source, at its target size."""
    ((_, pixels),) = cut_views(image, [view])
    return pixels


def cut_views(
    image: "Pixels", views: Sequence[View], resample: Resample = resize
) -> Iterator[tuple[View, "Pixels"]]:
    """Yields the pixels of many views of one decoded source, each with its view.

    Full views come first, then the tiles of one resized size after the other: the source is resized
    once per size, always from its own pixels, and only one resized image is alive at a time. The
    pixels are copies, so that a kept tile does not keep the image it was cut from. `resample` is
    another way to resize for what is no picture, such as a mask.

    Raises:
        ValueError: A rectangle outside its image, or a tile that is not its target's size.
    """
    sizes: dict[tuple[int, int], list[View]] = {}
    for view in views:
        if view.kind == "full":
            yield view, resample(image, *view.target, view.rect)
        else:
            sizes.setdefault(view.resized, []).append(view)
    for size, tiles in sizes.items():
        yield from _cut_tiles(image, size, tiles, resample)


def _cut_tiles(
    image: "Pixels", size: tuple[int, int], tiles: Sequence[View], resample: Resample
) -> Iterator[tuple[View, "Pixels"]]:
    whole = image if image.shape[1::-1] == size else resample(image, *size)
    for view in tiles:
        if view.rect[2:] != view.target:
            raise ValueError(f"a tile is cut, never scaled: {view.rect[2:]} is not {view.target}")
        yield view, cut(whole, view.rect).copy()
