from pathlib import Path
from typing import Any

import pytest

from tasks.config.concepts import Concept
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, concept


def only(onetrainer: OneTrainer, **said: Any) -> Concept:
    return onetrainer.concept(**said).config.concepts[0]


def test_a_concept_with_everything_set_comes_over_whole(onetrainer: OneTrainer) -> None:
    image: dict[str, Any] = {
        "enable_crop_jitter": False,
        "enable_random_flip": True,
        "enable_fixed_flip": True,
        "enable_random_rotate": True,
        "enable_fixed_rotate": True,
        "random_rotate_max_angle": 12.5,
        "enable_resolution_override": True,
        "resolution_override": "768",
    }
    for number, effect in enumerate(("brightness", "contrast", "saturation", "hue"), start=1):
        image |= {f"enable_random_{effect}": True, f"enable_fixed_{effect}": True}
        image[f"random_{effect}_max_strength"] = number / 10
    text = {
        "enable_tag_shuffling": True,
        "tag_delimiter": ";",
        "keep_tags_count": 2,
        "tag_dropout_enable": True,
        "tag_dropout_probability": 0.25,
        "tag_dropout_special_tags_regex": True,
        "caps_randomize_enable": True,
        "caps_randomize_probability": 0.5,
        "caps_randomize_lowercase": True,
    }
    flags = {
        "name": "harbour",
        "enabled": False,
        "include_subdirectories": True,
        "image_variations": 3,
        "text_variations": 4,
        "loss_weight": 0.5,
    }
    ours = only(onetrainer, **flags, image=image, text=text).model_dump()
    assert {key: ours[key] for key in flags} == flags
    assert {key: ours["image"][key] for key in image} == image
    assert {key: ours["text"][key] for key in text} == text


def test_a_concept_as_onetrainer_saves_it_needs_two_lines_here(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(name="harbour")
    assert result.toml["concepts"] == [{"name": "harbour", "path": "photos"}]
    assert result.config.concepts[0].image.enable_random_flip is False


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ({"balancing": 2.5}, {"repeats": 2.5, "samples_per_epoch": None}),
        (
            {"balancing": 200.0, "balancing_strategy": "SAMPLES"},
            {"repeats": 1.0, "samples_per_epoch": 200},
        ),
        ({"type": "VALIDATION"}, {"type": "validation"}),
        ({"text": {"prompt_source": "filename"}}, {"prompt_source": "filename"}),
    ],
)
def test_other_words_for_the_same(
    onetrainer: OneTrainer, said: dict[str, Any], ours: dict[str, Any]
) -> None:
    found = only(onetrainer, **said).model_dump()
    assert {key: found[key] for key in ours} == ours


def test_one_prompt_file_for_all(onetrainer: OneTrainer) -> None:
    (onetrainer.folder / "prompts.txt").write_text("a boat\n")
    text = {"prompt_source": "concept", "prompt_path": "prompts.txt"}
    ours = only(onetrainer, text=text)
    assert ours.prompt_source == "text_file"
    assert ours.prompt_path == str(onetrainer.folder / "prompts.txt")
    # The path of a source that is not chosen has no effect in OneTrainer either.
    assert only(onetrainer, text={"prompt_path": "prompts.txt"}).prompt_path is None


def test_prior_prediction_needs_an_adapter(onetrainer: OneTrainer) -> None:
    prior = [concept(name="a"), concept(name="p", type="PRIOR_PREDICTION")]
    ours = onetrainer.imported(SD15_LORA, prior).config.concepts[1]
    assert (ours.enabled, ours.type) == (True, "prior_prediction")
    full = onetrainer.imported({**SD15_LORA, "training_method": "FINE_TUNE"}, prior)
    ours = full.config.concepts[1]
    assert (ours.enabled, ours.type) == (False, "standard")
    assert full.left["concepts.1.type"].startswith("different: only adapters")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("FULL", "full"), ("RANDOM", "random"), ("RANDOM WEIGHTED", "random_weighted")],
)
def test_modes_of_tag_drop_out(onetrainer: OneTrainer, theirs: str, ours: str) -> None:
    assert only(onetrainer, text={"tag_dropout_mode": theirs}).text.tag_dropout_mode == ours


def test_special_tags_are_a_list_or_a_file(onetrainer: OneTrainer) -> None:
    text: dict[str, Any] = {"tag_dropout_special_tags": "pier, boat ,", "tag_delimiter": ","}
    text |= {"tag_dropout_special_tags_mode": "WHITELIST"}
    ours = only(onetrainer, text=text).text
    assert ours.tag_dropout_special_tags == ("pier", "boat")
    assert ours.tag_dropout_special_tags_mode == "whitelist"
    (onetrainer.folder / "tags.csv").write_text("pier,5\n")
    result = onetrainer.concept(text={**text, "tag_dropout_special_tags": "tags.csv"})
    told = result.toml["concepts"][0]["text"]
    assert told["tag_dropout_special_tags_path"] == "tags.csv"
    assert "tag_dropout_special_tags" not in told
    assert "every column" in result.comment("tag_dropout_special_tags_path")


def test_capital_modes_become_a_list_without_unknown_words(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(text={"caps_randomize_mode": "title, capslock, upside-down"})
    assert result.config.concepts[0].text.caps_randomize_mode == ("capslock", "title")
    assert "upside-down" in result.left["concepts.0.text.caps_randomize_mode"]


def test_lower_case_counts_while_capitals_are_off(onetrainer: OneTrainer) -> None:
    text = {"caps_randomize_lowercase": True, "caps_randomize_probability": 0.5}
    ours = only(onetrainer, text=text).text
    assert ours.caps_randomize_lowercase
    assert (ours.caps_randomize_enable, ours.caps_randomize_probability) == (True, 0.0)


def test_a_flip_that_the_file_does_not_tell_is_said_aloud(onetrainer: OneTrainer) -> None:
    result = onetrainer.imported(SD15_LORA, [{"path": "photos", "image": {}}])
    assert result.toml["concepts"][0]["image"] == {"enable_random_flip": False}
    assert "older versions: true" in result.comment("enable_random_flip")


def test_conversions_have_a_comment(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(
        balancing=0.5,
        image={"enable_random_rotate": True},
        text={"caps_randomize_enable": True},
    )
    assert "a random one" in result.comment("repeats")
    assert "mirrored, not black" in result.comment("enable_random_rotate")
    assert "kept tags keep their capitals" in result.comment("caps_randomize_enable")


def test_masks_count_in_every_concept(onetrainer: OneTrainer) -> None:
    said = {"masked_training": True, "unmasked_weight": 0.3, "normalize_masked_area_loss": True}
    said |= {"masked_prior_preservation_weight": 0.5, "unmasked_probability": 0.2}
    result = onetrainer.imported({**SD15_LORA, **said}, [concept(name="a"), concept(name="b")])
    assert [one.image.mask_source for one in result.config.concepts] == ["file", "file"]
    mask = result.config.train.mask
    assert (mask.enabled, mask.unmasked_weight, mask.normalize) == (True, 0.3, True)
    # OneTrainer reads the probability for models only that are told a mask.
    assert (mask.prior_weight, mask.unmasked_probability) == (0.5, 0.0)
    assert "masked_training" not in result.left


def test_changes_of_masks_are_not_there(onetrainer: OneTrainer) -> None:
    image = {"enable_random_circular_mask_shrink": True}
    assert "concepts.0.image.enable_random_circular_mask_shrink" in (
        onetrainer.concept(image=image).left
    )


def test_names_differ_in_the_end(onetrainer: OneTrainer) -> None:
    folders = [concept(path="x/boats"), concept(path="y/boats"), concept(name="boats 2")]
    result = onetrainer.imported(SD15_LORA, folders)
    assert [one.name for one in result.config.concepts] == ["boats", "boats 2", "boats 2 2"]


def test_a_concept_without_a_folder_is_not_the_current_folder(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(path="")
    assert Path(result.config.concepts[0].path).name == "name-its-folder"
    assert result.comment("path") == "the file names none"


def test_older_concepts(onetrainer: OneTrainer) -> None:
    old = {"__version": 0, "path": "photos", "repeats": 3, "validation_concept": True}
    ours = onetrainer.imported(SD15_LORA, [old]).config.concepts[0]
    assert (ours.repeats, ours.type) == (3.0, "validation")


def test_what_our_settings_do_not_allow_is_left_out_and_told(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(
        image_variations=5000,
        loss_weight=-1,
        text={"tag_dropout_probability": 1.5, "tag_delimiter": ""},
    )
    ours = result.config.concepts[0]
    assert (ours.image_variations, ours.loss_weight) == (1, 1.0)
    for key in (
        *("image_variations", "loss_weight"),
        *("text.tag_dropout_probability", "text.tag_delimiter"),
    ):
        assert result.left[f"concepts.0.{key}"].startswith("different: the value"), key


def test_an_unknown_key_is_told(onetrainer: OneTrainer) -> None:
    result = onetrainer.concept(mood="blue", image={"enable_sepia": True})
    assert result.left["concepts.0.mood"].startswith("unknown")
    assert result.left["concepts.0.image.enable_sepia"].startswith("unknown")
    assert 'concepts.0.mood = "blue"' in result.text


def test_a_list_of_concepts_alone(onetrainer: OneTrainer) -> None:
    file = onetrainer.write("training_concepts/boats.json", [concept(name="a", path="photos")])
    result = onetrainer.run_toml(file)
    config = result.config
    assert config.concepts[0].path == str(onetrainer.folder / "photos")
    assert (config.data.name, config.model.family) == ("boats", "sd15")
    assert "put yours here" in result.comment("base")
    assert result.left.keys() == {"concepts.0.seed"}
