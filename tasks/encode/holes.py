"""Holes: what an inpainting model paints of each sample, cut like its pixels.

A sample with a mask is also encoded with its masked part, the hole, in plain grey; the item is
named by the mask too. Of a sample without one everything is to be painted, whatever it shows: for
that there is one grey image per bucket, and the sample is encoded as for any other model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest
from storage.records import GREY, K
from tasks.arrow import as_array, first_of_each, with_columns
from tasks.config.models import DataConfig
from tasks.encode.workers import Group, Item
from tasks.families.vae import EncodePixels
from tasks.files.masks import Origin, read_mask
from tasks.files.reading import SourceChangedError
from tasks.imaging.augment import augment_mask
from tasks.imaging.header import ImageError
from tasks.imaging.jobs import SampleJob, row_view
from tasks.imaging.mask import average
from tasks.imaging.views import cut_views

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.imaging.decode import Pixels

LATENTS = ("latent", "masked")
"""The fields of an item that the VAE makes."""
_HALF = 128
"""From this level of a mask on a pixel is to be painted: half of it or more, as in diffusers."""

Masks = Mapping[bytes, tuple[Origin, tuple[int, int]]]
"""Item key to the mask and the (width, height) of its source, of the items that have a mask."""


def with_holes(samples: pa.Table, masks: pa.Table) -> pa.Table:
    """The samples of an inpainting model with their masks, and a grey image for each bucket.

    Args:
        samples: the kept samples.
        masks: the manifest of the masks.
    """
    wanted, known = (
        pc.binary_join_element_wise(
            *(pc.cast(one[n], pa.binary()) for n in ("concept", "key")), b""
        )
        for one in (samples, masks)
    )
    at = as_array(pc.index_in(wanted, as_array(known)))
    paths, ids = (masks[name].take(at) for name in ("mask_path", "mask_id"))
    pairs = zip(samples["key"].to_pylist(), ids.to_pylist(), strict=True)
    keys = [key if mask_id is None else digest("holes", key, mask_id) for key, mask_id in pairs]
    held = with_columns(samples, key=pa.array(keys, K), mask_path=paths, mask_id=ids)
    return pa.concat_tables([held, _grey_images(held)])


def masks_of(items: pa.Table) -> Masks:
    """The masks of items of `with_holes`; none of other tables of samples."""
    if "mask_id" not in items.column_names:
        return {}
    names = ("key", "mask_id", "mask_path", "original_width", "original_height")
    rows = items.filter(pc.is_valid(items["mask_id"])).select(names).to_pydict().values()
    return {
        key: (Origin(mask_id, path), (width, height))
        for key, mask_id, path, width, height in zip(*rows, strict=True)
    }


def grey_groups(items: pa.Table) -> Iterator[Group]:
    """The grey images among items, as sources of one item each."""
    for row in items.filter(pc.equal(items["kind"], GREY)).to_pylist():
        all_hole = np.zeros((row["bucket_height"], row["bucket_width"], 4), np.uint8)
        yield partial(list, [(row["key"], row_view(row), all_hole)])


def holed(
    jobs: Iterable[SampleJob], groups: Iterable[Group], data: DataConfig, masks: Masks
) -> Iterator[Group]:
    """The groups of these jobs; pixels with a mask get a fourth channel, 0 in the hole and else 1.

    A source whose mask vanished or changed gives nothing, as one that itself did.
    """

    def group(job: SampleJob, source: Group) -> list[Item] | Iterator[Item]:
        try:
            # Before the source is decoded: no thread may hold the memory of two images.
            kept = _kept_parts(job, data, masks)
        except (SourceChangedError, ImageError):
            return []
        items = source()
        found = ((key, view, _joined(pixels, kept.get(key))) for key, view, pixels in items)
        return list(found) if isinstance(items, list) else found

    return (partial(group, *pair) for pair in zip(jobs, groups, strict=True))


def encode_fields(encode: EncodePixels) -> Callable[[list["Pixels"]], list[dict[str, Any]]]:
    """What is stored of images of one shape: the latent, and what else inpainting takes.

    Of images with a fourth channel also `masked`, the latent (C, h, w) of the image with its hole,
    and `mask`, uint8 (1, h, w), 1 in the cells whose first pixel is in it.
    """

    def run(images: "list[Pixels]") -> list[dict[str, Any]]:
        latents = encode([image[..., :3] for image in images])
        if images[0].shape[2] == 3:
            return [{"latent": latent} for latent in latents]
        return [
            {"latent": latent, "masked": masked, "mask": _cells(image, latent)}
            for latent, masked, image in zip(latents, encode(images), images, strict=True)
        ]

    return run


def _grey_images(samples: pa.Table) -> pa.Table:
    """A row for each bucket of the samples."""
    edges = [samples[name].to_pylist() for name in ("bucket_width", "bucket_height")]
    buckets = [f"{width}x{height}" for width, height in zip(*edges, strict=True)]
    rows = first_of_each(with_columns(samples, bucket=pa.array(buckets, pa.string())), "bucket")
    names = rows["bucket"].to_pylist()
    keys = pa.array([digest(GREY, name) for name in names], K)
    told = pa.array([f"{GREY} {name}" for name in names], pa.string())
    nothing = dict.fromkeys(("source_id", "augmentation", "mask_path", "mask_id"))
    columns = {
        name: pa.array([value] * len(names), samples.schema.field(name).type)
        for name, value in ({"kind": GREY, "group": GREY} | nothing).items()
    }
    rows = with_columns(rows, key=keys, sample_id=keys, logical=told, path=told, **columns)
    return rows.select(samples.column_names).cast(samples.schema)


def _kept_parts(job: SampleJob, data: DataConfig, masks: Masks) -> "dict[bytes, Pixels]":
    """What stays of each sample with a mask, by its key: (H, W) of 0 and 1, eight pixels a byte.

    A large photo may have many tiles.
    """
    found: dict[bytes, Pixels] = {}
    of_job = {masks[key] for keys in job.samples.values() for key in keys if key in masks}
    for origin, size in of_job:
        with read_mask(job.path, job.source_id, size, origin, data) as mask:
            for view, cut_out in cut_views(mask, list(job.samples), average):
                for key, values in job.samples[view].items():
                    if masks.get(key) == (origin, size):
                        is_kept = augment_mask(cut_out, values) < _HALF
                        found[key] = np.packbits(is_kept, axis=1)
    return found


def _joined(pixels: "Pixels", kept: "Pixels | None") -> "Pixels":
    """(H, W, 3) pixels with the packed bits of `_kept_parts` as a fourth channel."""
    if kept is None:
        return pixels
    bits = np.unpackbits(kept, axis=1, count=pixels.shape[1])
    return np.dstack([pixels, bits])


def _cells(image: "Pixels", latent: "Tensor") -> "Pixels":
    """The hole at the latent's size by the nearest pixel, as diffusers resizes its mask."""
    height, width = image.shape[0] // latent.shape[1], image.shape[1] // latent.shape[2]
    return 1 - image[None, ::height, ::width, 3]
