"""Pictures: the pixels of captioned tiles and photos as they are sent, decoded once per source."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import simplejpeg

from tasks.captions.chosen import Target
from tasks.config.models import DataConfig
from tasks.files.reading import SourceChangedError, num_threads
from tasks.files.sources import decoded
from tasks.imaging.decode import ImageError
from tasks.imaging.resize import resize
from tasks.imaging.views import View, cut_views

if TYPE_CHECKING:
    from tasks.imaging.decode import Pixels

QUALITY = 90
"""Belongs to the name of the format in `chosen.PICTURE`."""
Wanted = tuple[Target, tuple[int, int]]
"""A target and the (width, height) in which its picture is sent."""
Send = Callable[[Target, bytes], bool]
"""Takes a target and its JPEG; False once nobody wants more."""
Lose = Callable[[Target, str], None]
"""Told of a target whose picture cannot be made, and why."""


def feed(wanted: Sequence[Wanted], data: DataConfig, send: Send, lose: Lose) -> None:
    """Makes all pictures on threads, source after source; returns when they have been sent.

    A thread that waits because enough pictures wait for an answer holds one decoded source.

    Raises:
        BaseException: whatever broke a thread.
    """
    sources = _sources(wanted)
    lock = threading.Lock()
    broken: list[BaseException] = []

    def work() -> None:
        try:
            while not broken:
                with lock:
                    group = next(sources, None)
                if group is None or not _send_source(group, data, send, lose):
                    return
        except BaseException as error:
            broken.append(error)

    count = min(num_threads(data.threads), len(wanted))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]


def _sources(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    for _, group in groupby(wanted, key=lambda one: (one[0].path, one[0].source_id)):
        yield list(group)


def _send_source(group: list[Wanted], data: DataConfig, send: Send, lose: Lose) -> bool:
    """Sends the pictures of one source; False once nobody wants more."""
    first = group[0][0]
    try:
        with decoded(first.path, first.source_id, data) as image:
            for target, jpeg in _pictures(image, group):
                if not send(target, jpeg):
                    return False
    except (SourceChangedError, ImageError) as error:
        for target, _ in group:
            lose(target, str(error))
    return True


def _pictures(image: "Pixels", group: list[Wanted]) -> Iterator[tuple[Target, bytes]]:
    """The pictures of one source; a tile that several concepts ask about is cut once."""
    asked: dict[View, list[Wanted]] = {}
    for target, size in group:
        if target.view.kind == "full":
            yield target, _jpeg(resize(image, *size, target.view.rect))
        else:
            asked.setdefault(target.view, []).append((target, size))
    for view, pixels in cut_views(image, list(asked)):
        for target, size in asked[view]:
            yield target, _jpeg(resize(pixels, *size))


def _jpeg(pixels: "Pixels") -> bytes:
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling="420")
    return data
