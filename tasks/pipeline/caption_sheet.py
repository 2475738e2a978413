"""The sheet of captions of a configuration: pictures and texts collected, and the page written."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os.path import commonprefix
from typing import TYPE_CHECKING

import pyarrow as pa
import simplejpeg

from storage.naming import now_iso
from storage.records import K
from tasks import progress
from tasks.captions.chosen import Target, sent_size
from tasks.captions.edits import STAGE_ID
from tasks.captions.failures import kind_of
from tasks.captions.sheet import MAX_CARDS, Card, Sheet, html_sheet, shrunk
from tasks.config.models import Config, DataConfig
from tasks.crops.drops import short_name
from tasks.export.tiles import spread
from tasks.files.reading import SourceChangedError, num_threads, thread_map
from tasks.files.sources import decoded
from tasks.imaging.decode import ImageError
from tasks.imaging.resize import resize
from tasks.imaging.views import View, cut_views
from tasks.pipeline.captions import Captioned
from tasks.pipeline.thumbnails import thumbnails_of
from tasks.stage import Context
from tasks.wording.resolve import EDITED, GENERATED

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

_HEAD_BYTES = 2000
"""So far into a page it has said what it was made of."""
EDGE, QUALITY = 192, 82
"""Of the pictures of tiles."""
THUMBNAIL_EDGE = 160
Photo = tuple[str, bytes]
"""Path and source_id."""


def is_listed(one: Captioned) -> bool:
    """Whether something has a text of its own, or is to get one."""
    return one.chosen or one.origin in (EDITED, GENERATED)


def collect_sheet(
    config: Config,
    captioned: Iterable[Captioned],
    *,
    made_of: str = "",
    max_cards: int = MAX_CARDS,
) -> Sheet:
    """The sheet of all that is listed, with at most so many cards, evenly spread.

    Each photo of a card is decoded once. One that is gone or has changed gives no picture.
    """
    context = Context(config)
    listed = [one for one in captioned if is_listed(one)]
    failed = _failures(context, listed)
    shown = [listed[number] for number in spread(len(listed), max_cards)]
    targets = [one.target for one in shown]
    pictures, folder = _pictures(targets, config.data), _folder([one.path for one in targets])
    cards = (_card(one, pictures, failed.get(one.target.label, "")) for one in shown)
    unusable = Counter(filter(None, map(_unusable, listed)))
    return Sheet(
        name=config.data.name,
        made_at=now_iso(),
        made_of=made_of,
        total=len(listed),
        folder=folder,
        cards=tuple(replace(card, path=card.path.removeprefix(folder)) for card in cards),
        thumbnails=_thumbnails(context, targets),
        origins=Counter(one.origin for one in listed),
        unusable=dict(unusable.most_common()),
        failures=dict(Counter(map(kind_of, failed.values())).most_common()),
    )


def write_sheet(config: Config, sheet: Sheet) -> str:
    """Writes the page beside the versions of its dataset; returns its URI."""
    store, path = Context(config).store, sheet_path(config)
    store.replace(path, html_sheet(sheet).encode())
    return store.uri(path)


def current_sheet(config: Config, made_of: str) -> str | None:
    """The URI of the page, where it was made of just this; None where it must be made anew."""
    store, path = Context(config).store, sheet_path(config)
    if not store.exists(path):
        return None
    head = store.read_range(path, 0, min(_HEAD_BYTES, store.size(path)))
    return store.uri(path) if f'content="{made_of}"'.encode() in head else None


def sheet_path(config: Config) -> str:
    """Where in the store the page is; there is one per dataset, always the newest."""
    return f"datasets/{config.data.name}/captions.html"


def _unusable(one: Captioned) -> str:
    """Why the answer to a tile is no caption; a text of a person makes that unimportant."""
    if one.answer is None or one.origin == EDITED:
        return ""
    return str(one.answer["unusable"] or "")


def _failures(context: Context, listed: Iterable[Captioned]) -> dict[str, str]:
    """The last failure of everything that still has no answer, by its label."""
    table = context.rejected("captions", STAGE_ID).select(["path", "reason"])
    reasons = dict(zip(*table.to_pydict().values(), strict=True))
    labels = (one.target.label for one in listed if one.answer is None and one.origin != EDITED)
    return {label: reasons[label] for label in labels if label in reasons}


def _folder(paths: Sequence[str]) -> str:
    """The folder that all photos are in, with a slash at its end; empty where there is none."""
    folder, slash, _ = commonprefix(paths).rpartition("/")
    return folder + slash


def _card(one: Captioned, pictures: Mapping[bytes, bytes], failure: str) -> Card:
    target, unusable, answer = one.target, _unusable(one), one.answer or {}
    (left, top, width, height), (wide, high) = target.view.rect, target.view.resized
    is_tile = target.view.kind != "full"
    place = f"{target.view.kind} ×{target.view.scale:g} at {left},{top} of {wide}×{high}"
    return Card(
        path=target.path,
        name=short_name(target.view_id),
        where=place if is_tile else "whole photo",
        prompts=one.prompts,
        origin=one.origin,
        context=target.context,
        answer=answer.get("answer") or "" if unusable else "",
        unusable=unusable,
        failure=failure,
        model=answer.get("model") or "",
        picture=pictures.get(target.view_id),
        source=target.source_id.hex(),
        part=(left / wide, top / high, width / wide, height / high) if is_tile else None,
    )


def _pictures(targets: Sequence[Target], data: DataConfig) -> dict[bytes, bytes]:
    """The JPEG of every view that can still be cut."""
    photos: dict[Photo, dict[bytes, View]] = {}
    for target in targets:
        photos.setdefault((target.path, target.source_id), {})[target.view_id] = target.view
    made = thread_map(
        lambda photo: _of_photo(*photo, data), photos.items(), num_threads(data.threads)
    )
    found: dict[bytes, bytes] = {}
    for done, pictures in enumerate(made, 1):
        progress.report("captions sheet", done, len(photos), "photos")
        found |= pictures
    return found


def _of_photo(photo: Photo, views: Mapping[bytes, View], data: DataConfig) -> dict[bytes, bytes]:
    try:
        with decoded(*photo, data) as image:
            tiles = {view: key for key, view in views.items() if view.kind != "full"}
            cut = {tiles[view]: _jpeg(pixels) for view, pixels in cut_views(image, list(tiles))}
            whole = {key: _jpeg(image) for key, view in views.items() if view.kind == "full"}
            return cut | whole
    except (SourceChangedError, ImageError):
        return {}


def _jpeg(pixels: "Pixels") -> bytes:
    height, width = pixels.shape[:2]
    small = resize(pixels, *sent_size((width, height), EDGE))
    jpeg: bytes = simplejpeg.encode_jpeg(small, quality=QUALITY, colorsubsampling="420")
    return jpeg


def _thumbnails(context: Context, targets: Sequence[Target]) -> dict[str, bytes]:
    """The JPEG of every photo that has one, by its key in hex."""
    sources = pa.table(
        {
            "path": pa.array([target.path for target in targets], pa.string()),
            "source_id": pa.array([target.source_id for target in targets], K),
        }
    )
    found = thumbnails_of(context.store, sources, context.config.data)
    wanted = {target.source_id for target in targets} & set(found)
    return {source.hex(): shrunk(found[source], THUMBNAIL_EDGE) for source in sorted(wanted)}
