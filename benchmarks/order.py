"""Times the order of one epoch over a million rows; the promise is less than half a second.

Run from the repository root: python -m benchmarks.order
"""

import sys
import time

import numpy as np

from tasks.epochs.order import OrderColumns, OrderSettings, epoch_plan

LIMIT_SECONDS = 0.5


def million_rows(num_rows: int = 1_000_000, num_buckets: int = 24) -> OrderColumns:
    """Rows of five concepts in many buckets, two resolutions each, a fifth of them tile phases."""
    random = np.random.default_rng(0)
    return OrderColumns(
        bucket=random.integers(0, num_buckets, num_rows),
        concept=random.integers(0, 5, num_rows),
        repeats=np.ones(num_rows),
        phase=np.where(random.random(num_rows) < 0.2, 0, -1),
        group_hash=random.integers(0, 2**63, num_rows, dtype=np.uint64),
        alternative=np.zeros(num_rows, dtype=np.int64),
        num_alternatives=np.ones(num_rows, dtype=np.int64),
    )


def order_seconds(num_rows: int = 1_000_000) -> float:
    """Seconds for one epoch's order, the best of three."""
    columns = million_rows(num_rows)
    settings = OrderSettings(content_digest="benchmark", seed=1, batch_size=4, step_size=4)
    times = []
    for epoch in range(3):
        start = time.perf_counter()
        epoch_plan(columns, settings, epoch)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Prints the time; exit status 1 when it misses the limit."""
    seconds = order_seconds()
    print(f"order of 1,000,000 rows: {seconds:.3f} s (limit {LIMIT_SECONDS} s)")
    return int(seconds >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
