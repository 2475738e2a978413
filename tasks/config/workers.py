"""`[workers]`: where the partitions of the data stages are worked on."""

from typing import Literal

from pydantic import Field

from tasks.config.section import Section


class WorkersConfig(Section):
    """Who works on the partitions of the data stages; what comes out is the same."""

    runner: Literal["threads", "processes", "dask", "ray"] = "threads"
    """threads: this process, one partition after the other, each on all cores; processes: several
    of this machine; dask, ray: the workers of a cluster (extras of these names)."""
    count: int = Field(default=0, ge=0)
    """Partitions at the same time; 0 means 1 for threads and 2 for workers on this machine. A
    cluster at an address takes as many as it has room for."""
    address: str | None = None
    """A running cluster: `tcp://HOST:8786` for Dask, `HOST:6379` for a Ray cluster that this
    machine is a node of. Default: `count` workers on this machine, started for the run."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """Share of a GPU that a partition of text or latents takes on a cluster; it then waits for a
    Dask worker with the resource GPU, or for a Ray node with that much GPU left."""
