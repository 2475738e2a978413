from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config.concepts import DetailCrops
from tests.tasks.onetrainer.onetrainer_files import (
    SD15_LORA,
    SDXL_LORA,
    OneTrainer,
    Result,
    concept,
    detail_crops,
)


def imported(onetrainer: OneTrainer, config: dict[str, Any] = SDXL_LORA, **said: Any) -> Result:
    return onetrainer.imported(config, [concept(name="a", image=detail_crops(**said))])


def crops(result: Result) -> DetailCrops:
    return result.config.concepts[0].image.detail_crops


def test_the_forks_defaults_are_written_out_where_ours_differ(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, scales=[2, 4])
    ours = crops(result)
    assert (ours.enabled, ours.tile_resolution, ours.overlap) == (True, 1024, 128)
    assert ours.scales == (2.0, 4.0)
    assert ours.uncaptioned_prompt == "inherit"
    assert "empty prompt" in result.comment("uncaptioned_prompt")
    # 0.001 of 255 grey levels, and an edge count of int(0.015): practically off.
    assert ours.blank_std_threshold == pytest.approx(0.001 / 255, rel=1e-3)
    assert ours.blank_edge_threshold == 0
    assert "counts as 0 edge pixels: off" in result.comment("blank_edge_threshold")


def test_thresholds_have_other_units(onetrainer: OneTrainer) -> None:
    result = imported(
        onetrainer, tile_resolution=512, blank_std_threshold=5.1, blank_edge_threshold=64
    )
    assert crops(result).blank_std_threshold == pytest.approx(0.02)
    assert crops(result).blank_edge_threshold == pytest.approx(64 / 512**2, rel=1e-3)
    assert result.comment("blank_std_threshold") == "5.1 of 255 grey levels"
    assert result.comment("blank_edge_threshold") == "64 edge pixels of a tile"


def test_zeros_mean_what_the_fork_makes_of_them(onetrainer: OneTrainer) -> None:
    result = imported(
        onetrainer, overlap=0, tile_resolution=0, blank_std_threshold=0, blank_edge_threshold=0
    )
    ours = crops(result)
    assert (ours.overlap, ours.tile_resolution) == (128, 1024)
    assert ours.blank_std_threshold == pytest.approx(10 / 255, rel=1e-3)
    assert ours.blank_edge_threshold == pytest.approx(50 / 1024**2, rel=1e-3)
    assert "the fork reads as 128" in result.comment("overlap")


def test_no_scales_stay_none(onetrainer: OneTrainer) -> None:
    assert crops(imported(onetrainer)).scales == ()


@pytest.mark.parametrize(
    ("config", "tile", "ours"),
    [(SDXL_LORA, 1024, 2.0), (SDXL_LORA, 512, 1.0), (SD15_LORA, 1024, 4.0)],
)
def test_scales_multiply_the_training_resolution_here_and_the_tile_there(
    onetrainer: OneTrainer, config: dict[str, Any], tile: int, ours: float
) -> None:
    result = imported(onetrainer, config, tile_resolution=tile, scales=[2])
    assert crops(result).scales == (ours,)
    assert ("multiplies the training resolution" in result.comment("scales")) is (ours != 2)


def test_a_resolution_of_the_concepts_own_counts(onetrainer: OneTrainer) -> None:
    image = {"enable_resolution_override": True, "resolution_override": "2048"}
    image |= detail_crops(scales=[2], tile_resolution=1024)
    result = onetrainer.imported(SDXL_LORA, [concept(image=image)])
    assert crops(result).scales == (1.0,)


@settings(max_examples=50, deadline=None)
@given(
    tile=st.integers(1, 4096),
    scale=st.floats(0.1, 8),
    resolution=st.integers(64, 2048),
)
def test_the_short_side_of_a_pass_is_the_forks(
    tmp_path_factory: pytest.TempPathFactory, tile: int, scale: float, resolution: int
) -> None:
    onetrainer = OneTrainer(tmp_path_factory.mktemp("onetrainer"))
    config = {**SD15_LORA, "resolution": str(resolution)}
    result = imported(onetrainer, config, tile_resolution=tile, scales=[scale])
    ours = crops(result)
    assert ours.tile_resolution is not None
    short_side = int(result.config.data.resolution) * ours.scales[0]
    assert short_side == pytest.approx(ours.tile_resolution * scale, rel=1e-4)
    assert ours.tile_resolution % 8 == 0
    assert abs(ours.tile_resolution - tile) <= 8


def test_switches_come_over_as_they_are(onetrainer: OneTrainer) -> None:
    said = {
        "include_context_tiles": True,
        "include_full_images": False,
        "regenerate_each_epoch": True,
        "parallel_workers": 3,
        "save_to_disk": True,
        "save_directory": "crops",
        "save_max_tiles_per_image": 7,
    }
    result = imported(onetrainer, **said)
    ours = crops(result).model_dump()
    said.pop("save_directory")
    assert {key: ours[key] for key in said} == said
    assert result.toml["concepts"][0]["image"]["detail_crops"]["save_directory"] == "crops"
    assert "had no effect" in result.comment("regenerate_each_epoch")
    assert "the fork deletes it" in result.comment("save_directory")
    result = imported(onetrainer, save_to_disk=True, save_directory="C:\\tiles")
    assert "a path of Windows" in result.comment("save_directory")


def test_tiles_on_disk_need_a_folder_here(onetrainer: OneTrainer) -> None:
    result = imported(onetrainer, save_to_disk=True)
    assert result.toml["concepts"][0]["image"]["detail_crops"]["save_directory"] == "tiles/a"


def test_a_table_that_is_off_and_untouched_is_left_out(onetrainer: OneTrainer) -> None:
    untouched = imported(onetrainer, enabled=False)
    assert "image" not in untouched.toml["concepts"][0]
    prepared = imported(onetrainer, enabled=False, scales=[2])
    assert crops(prepared).enabled is False
    assert crops(prepared).scales == (2.0,)


def test_other_effects_of_the_fork_are_told_where_they_are_on(onetrainer: OneTrainer) -> None:
    image = {"enable_luma_normalize": True, "luma_mix": 0.5, "style_focus_mix": 0.1}
    left = onetrainer.concept(image=image).left
    assert left["concepts.0.image.enable_luma_normalize"].startswith("not yet: only in a fork")
    assert "concepts.0.image.luma_mix" in left
    assert "concepts.0.image.style_focus_mix" not in left
