"""The report of a very large dataset: how long it takes to make, and to open in a browser.

    python -m benchmarks.report [--sources 20000] [--keep FILE]

The sources are invented, with about twelve views each; their pictures are those of real photos.
Chromium opens the page as a person would; it is ready when the first sources are on the screen. The
best of three runs counts. Exit code 1: a bound was missed, or there is no Chromium.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import load, verdict
from tasks.epochs.entries import OrderSettings
from tasks.epochs.outlook import outlook
from tasks.report.build import About, build_report
from tasks.report.packing import PAGE_BYTES
from tests.tasks.report.browser import browser, program
from tests.tasks.report.synthetic import SIZES, many_sources

BUILD_SECONDS = 60.0
READY_MS = 3000
ROUNDS = 3


def main() -> int:
    """Measure, print one line per figure, and tell whether the bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="Write the page to this file.")
    arguments = parser.parse_args()
    print(load())
    with tempfile.TemporaryDirectory() as folder:
        page = arguments.keep or Path(folder) / "report.html"
        seconds = make(arguments.sources, page)
        size = page.stat().st_size
        ready = [ready_ms(page) for _ in range(ROUNDS)] if program() else []
    print(f"ready: {', '.join(map(str, ready)) or 'no Chromium'} ms")
    good = [
        verdict(f"build: {seconds:.1f} s (bound {BUILD_SECONDS:g})", good=seconds < BUILD_SECONDS),
        verdict(f"page: {size / 1e6:.1f} MB (bound {PAGE_BYTES / 1e6:g})", good=size <= PAGE_BYTES),
        verdict(
            f"ready: {min(ready, default=0)} ms (bound {READY_MS})",
            good=bool(ready) and min(ready) < READY_MS,
        ),
    ]
    return 0 if all(good) else 1


def make(num_sources: int, page: Path) -> float:
    """Write the page of so many sources; returns the seconds that it took to build."""
    tables, thumbnails = many_sources(num_sources)
    print(f"{num_sources:,} sources, {tables.views.num_rows:,} views of {len(SIZES)} sizes")
    start = time.perf_counter()
    settings = OrderSettings(content_digest="", seed=0, batch_size=4, step_size=1)
    about = About(
        meta={
            "name": "large",
            "version": 2,
            "settings": {},
            "parent": {"version": 1, "settings": {}},
        },
        outlook=outlook(tables.rows, settings, epochs=10),
    )
    html = build_report(tables, about, thumbnails=thumbnails)
    seconds = time.perf_counter() - start
    page.write_text(html)
    return seconds


def ready_ms(page: Path) -> int:
    """Milliseconds from the start of loading until the first sources are on the screen."""
    with browser() as tab:
        tab.open(page)
        return int(tab.run("document.documentElement.dataset.readyMs"))


if __name__ == "__main__":
    sys.exit(main())
