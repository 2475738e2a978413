"""Times the order of one epoch over a million rows; the promise is less than half a second.

Run from the repository root: python -m benchmarks.order
"""

import sys
import time

import numpy as np

from tasks.epochs.entries import OrderColumns, OrderSettings
from tasks.epochs.order import epoch_plan

LIMIT_SECONDS = 0.5


def million_rows(
    num_rows: int = 1_000_000, num_buckets: int = 24, *, everything: bool = False
) -> OrderColumns:
    """Rows of five concepts in many buckets; with `everything`, every feature of an epoch is on.

    That is: two resolutions, two variations, four grid phases for a fifth of the rows, tiles with
    a limit per source, fractional repeats, and one concept with a number of samples.
    """
    random = np.random.default_rng(0)
    concept = random.integers(0, 5, num_rows)
    source = random.integers(0, num_rows // 20, num_rows)
    tiles = random.random(num_rows) < 0.2
    turns = 2 if everything else 1
    return OrderColumns(
        bucket=random.integers(0, num_buckets, num_rows),
        concept=concept,
        repeats=np.full(num_rows, 1.5 if everything else 1.0),
        samples=np.where(concept == 0, 50_000 if everything else -1, -1),
        phase=np.where(tiles, random.integers(0, 4, num_rows) if everything else 0, -1),
        num_phases=np.where(tiles & everything, 4, 1),
        group_hash=random.integers(0, 2**63, num_rows // 20, dtype=np.uint64)[source],
        resolution=random.integers(0, turns, num_rows),
        num_resolutions=np.full(num_rows, turns),
        variation=random.integers(0, turns, num_rows),
        num_variations=np.full(num_rows, turns),
        tile_group=source,
        tile_limit=np.where(random.random(num_rows) < 0.8, 2 if everything else 0, 0),
    )


def order_seconds(num_rows: int = 1_000_000, *, everything: bool = False) -> float:
    """Seconds for one epoch's order, the best of three."""
    columns = million_rows(num_rows, everything=everything)
    settings = OrderSettings(content_digest="benchmark", seed=1, batch_size=4, step_size=4)
    times = []
    for epoch in range(3):
        start = time.perf_counter()
        epoch_plan(columns, settings, epoch)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Prints the times; exit status 1 when one misses the limit."""
    good = True
    for name, everything in (("plain", False), ("every feature on", True)):
        seconds = order_seconds(everything=everything)
        good &= seconds < LIMIT_SECONDS
        print(f"order of 1,000,000 rows, {name}: {seconds:.3f} s (limit {LIMIT_SECONDS} s)")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
