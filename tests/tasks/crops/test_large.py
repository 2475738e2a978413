"""Very large sources are tiled in little more memory than their pixels take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pyvips

from tests import odd_files
from tests.model_fixtures import TinyModels
from tests.photos import photo_pixels
from tests.projects import make_old, make_project

MIB = 2**20
LIBRARIES = 300 * MIB
SETTINGS = """
[store]
url = "memory://tiling"
[model]
family = "sd15"
base = "{base}"
[data]
resolution = "512"
threads = 3
decode_memory_mib = 256
[[concepts]]
name = "photos"
path = "photos"
prompt_source = "filename"
[concepts.image.detail_crops]
enabled = true
scales = [2, 4]
[train.method]
kind = "lora"
"""
# VmHWM and not getrusage: that begins with the memory of the process which started this one.
CHILD = """
import json, re, sys
from pathlib import Path
from tasks.config.loading import load_config
from tasks.pipeline.run import plan_stage, seal_stage, work_partition
config, refs = load_config(Path(sys.argv[1])), {}
for stage, after in (("scan", None), ("prompts", "scan"), ("crops", "prompts")):
    planned = plan_stage(config, stage, {after: refs[after]} if after else {})
    done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
    refs[stage] = seal_stage(config, planned, done)
status = Path("/proc/self/status").read_text()
peak = 1024 * int(re.search("VmHWM:[^0-9]*([0-9]+)", status)[1])
crops = refs["crops"]
print(json.dumps({"peak": peak, "views": crops.num_items, "rejected": crops.counts.rejected}))
"""


def large_image(width: int, height: int) -> pyvips.Image:
    """Texture everywhere, so that no file is small."""
    tile = odd_files.vips(photo_pixels(1600, 1200, 1))
    return tile.replicate(width // 1600 + 1, height // 1200 + 1).crop(0, 0, width, height)


def tile_in_child(folder: Path, base: Path) -> dict[str, int]:
    for path in (folder / "photos").iterdir():
        make_old(path)
    settings = folder / "run.toml"
    settings.write_text(SETTINGS.format(base=base))
    command = [sys.executable, "-c", CHILD, str(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_large_sources_are_decoded_one_by_one_and_held_once(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    photos = make_project(tmp_path, tiny_models["sd15"], num_photos=0).photos
    image = large_image(9_200, 7_000)
    turned = image.copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    turned.jpegsave(str(photos / "turned.jpg"))
    image.pngsave(str(photos / "a.png"), compression=1)
    image.tiffsave(str(photos / "a.tif"), compression="lzw", tile=True, pyramid=True, bigtiff=True)
    found = tile_in_child(tmp_path, tiny_models["sd15"])
    decoded = 3 * image.width * image.height
    assert (found["rejected"], found["views"]) == (0, 3 * (1 + 9 + 30))
    # The bound of one thread: all three at once took 1.1 GB.
    assert found["peak"] < LIBRARIES + 3 * decoded


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "16-bit.tif"])
def test_300_megapixels_are_tiled_within_2_gib(
    suffix: str, tmp_path: Path, tiny_models: TinyModels
) -> None:
    photos = make_project(tmp_path, tiny_models["sd15"], num_photos=0).photos
    image = large_image(20_000, 15_000)
    if suffix == "16-bit.tif":
        image = (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    image.write_to_file(str(photos / f"a.{suffix}"))
    found = tile_in_child(tmp_path, tiny_models["sd15"])
    assert (found["rejected"], found["views"]) == (0, 1 + 9 + 30)
    assert found["peak"] < 2048 * MIB
