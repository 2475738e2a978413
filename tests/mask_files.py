"""Mask files beside the photos of a test project, and the masks that its store holds."""

from pathlib import Path

import numpy as np
from PIL import Image

from storage.reading import ItemReader, ItemRef
from storage.records import LOCATION
from storage.store import open_store
from tests.projects import Prepared, Project, make_old


def write_mask(photo: Path, mask: np.ndarray) -> Path:
    """Writes the mask of a photo, dated an hour back."""
    path = photo.with_name(f"{photo.stem}-masklabel.png")
    Image.fromarray(mask).save(path)
    make_old(path)
    return path


def half_mask(width: int = 160, height: int = 112) -> np.ndarray:
    """The left half counts nothing, the right half fully."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 255
    return mask


def stored_masks(project: Project, prepared: Prepared) -> dict[bytes, np.ndarray | None]:
    """The latent cells (h, w) of every row by its row_id; None where all of it counts."""
    found: dict[bytes, np.ndarray | None] = {}
    with ItemReader(open_store(project.config().store.url)) as reader:
        for row in prepared.rows.to_pylist():
            found[row["row_id"]] = None
            if row["mask_shard"] is not None:
                item = ItemRef(row["mask_stage"], *(row[f"mask_{name}"] for name in LOCATION))
                (tensors,) = reader.read_many([item])
                found[row["row_id"]] = tensors["mask"].numpy()[0]
    return found
