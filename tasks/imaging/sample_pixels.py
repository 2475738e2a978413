"""Sample pixels: a view of a decoded source with its augmentation, as the model is to see it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tasks.imaging.augment import Values, augment
from tasks.imaging.views import View, cut_views

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels


def sample_pixels(image: "Pixels", view: View, values: Values) -> "Pixels":
    """The (height, width, 3) uint8 pixels of one sample, at the view's target size."""
    ((_, _, pixels),) = cut_samples(image, {view: {b"": values}})
    return pixels


def cut_samples(
    image: "Pixels", samples: Mapping[View, Mapping[bytes, Values]]
) -> Iterator[tuple[bytes, View, "Pixels"]]:
    """Yields (key, view, pixels) of many samples of one source; each view is cut once."""
    for view, pixels in cut_views(image, list(samples)):
        for key, values in samples[view].items():
            yield key, view, augment(pixels, values)
