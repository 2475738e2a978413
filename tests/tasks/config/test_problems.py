from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError, Problem

Write = Callable[..., Path]
CROPS = "concepts.0.image.detail_crops"


def problems(file: Path, options: Iterable[str] = ()) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, options, {})
    return {problem.key: problem for problem in caught.value.problems}


def test_a_problem_says_key_value_origin_and_remedy(write: Write) -> None:
    found = problems(write("[train]\nepochz = 3\n"))["train.epochz"]
    assert (found.got, found.source.endswith("run.toml")) == ("3", True)
    assert "did you mean train.epochs?" in found.message


@pytest.mark.parametrize(
    ("option", "key", "told"),
    [
        ("data.resolutoin=512", "data.resolutoin", "did you mean data.resolution?"),
        ("train.scales=[2]", "train.scales", f"there is {CROPS}.scales"),
        ("train.zzz=1", "train.zzz", "allowed here: method, embeddings"),
        ("train.method.rnk=4", "train.method.rnk", "did you mean train.method.rank?"),
        ("train.method.kind=lorra", "train.method", 'did you mean "lora"?'),
        ("train.train_dtype=bf16", "train.train_dtype", '"float32", "bfloat16", "float16"'),
        ("model.output_format=kohya", "model.output_format", 'did you mean "kohya_lora"?'),
        ("train.epochs=0", "train.epochs", "greater than or equal to 1"),
        ("train.epochs=many", "train.epochs", "must be a whole number"),
        ("train.epochs=2.5", "train.epochs", "must be a whole number"),
        ("train.learning_rate=fast", "train.learning_rate", "must be a number"),
        ("data.latent_caching=maybe", "data.latent_caching", "must be true or false"),
        (f"{CROPS}.scales=2", f"{CROPS}.scales", "must be a list; write [2]"),
        ("train.sample=3", "train.sample", "must be a table"),
        ("model.family=sd16", "model.family", 'did you mean "sd15"?'),
        ("data.name='a/b'", "data.name", "letters, digits"),
        ("data.resolution=500", "data.resolution", "multiple of 8 for sd15; nearest: 496 or 504"),
        ("data.resolution=big", "data.resolution", "resolution"),
        ("model.output_format=diffusers", "model.output_format", 'train.method.kind = "lora"'),
        ("model.output_format=single_file", "model.output_format", "it holds a whole model"),
        ("model.output_format=embedding", "model.output_format", "it holds trained words"),
        ("model.output=lora.bin", "model.output", "must end with .safetensors"),
        ("parts.text_encoder_2.train=true", "parts.text_encoder_2", "sd15 has no such part"),
        ("parts.denoiser.train=false", "parts.denoiser.train", "nothing would be trained"),
        ("concepts.0.enabled=false", "concepts", "no enabled concept"),
        ("concepts.0.prompt_source=text_file", "concepts.0.prompt_path", "must name a text file"),
        ("train.sample.width=100", "train.sample.width", "nearest: 96 or 104"),
        ("model.base=./modell", "model.base", "nothing exists at"),
    ],
)
def test_a_wrong_setting_is_explained(write: Write, option: str, key: str, told: str) -> None:
    found = problems(write(), [option])
    assert told in found[key].message, found
    assert len(found) == 1
    assert found[key].source == f"--set {option}" or key in ("concepts", "concepts.0.prompt_path")


@pytest.mark.parametrize(
    ("settings", "key", "told"),
    [
        ("tile_resolution=100", "tile_resolution", "nearest: 96 or 104"),
        ("overlap=512", "overlap", "less than the tile, which is 512 pixels"),
        ("tile_resolution=256, overlap=256", "overlap", "which is 256 pixels"),
        ("scales=[]", "scales", "gives no tiles"),
    ],
)
def test_tiles_are_checked_only_when_they_are_on(
    write: Write, settings: str, key: str, told: str
) -> None:
    crops = f"{CROPS}={{ {settings} }}"
    assert load_config(write(), [crops], {}).concepts[0].image.detail_crops.enabled is False
    found = problems(write(), [crops, f"{CROPS}.enabled=true"])
    assert told in found[f"{CROPS}.{key}"].message


def test_a_missing_folder_names_its_neighbour(write: Write, project: Path) -> None:
    found = problems(write(), [f"concepts.0.path={project}/fotos"])["concepts.0.path"]
    assert f"did you mean {project / 'photos'}?" in found.message


def test_two_concepts_of_one_name_are_refused(write: Write) -> None:
    found = problems(write("[[concepts]]\npath = './photos/'\n"))["concepts.1.name"]
    assert (found.got, "concepts.0 has this name too" in found.message) == ('"photos"', True)


def test_a_text_file_that_is_missing_names_its_neighbour(write: Write, project: Path) -> None:
    (project / "prompts.txt").touch()
    found = problems(write("prompt_source = 'text_file'\nprompt_path = 'prompt.txt'\n"))
    assert "prompts.txt?" in found["concepts.0.prompt_path"].message


def test_the_wrong_family_of_a_model_is_told(write: Write) -> None:
    found = problems(write(), ["model.family=sdxl", "data.resolution=1024"])
    assert "StableDiffusionPipeline" in found["model.base"].message


def test_a_number_in_a_file_for_a_text_setting_is_explained(write: Write) -> None:
    found = problems(write("[data]\nresolution = 512\n"))["data.resolution"]
    assert 'write it in quotes: "512"' in found.message


def test_everything_is_listed_at_once_on_one_screen(write: Write) -> None:
    options = [f"train.wrong{number}=1" for number in range(20)]
    options += ["model.family=sd16", "train.epochs=0", "concepts.0.path=nowhere"]
    with pytest.raises(ConfigError) as caught:
        load_config(write(), options, {})
    assert len(caught.value.problems) == len(options)
    text = str(caught.value)
    assert len(text.splitlines()) <= 24
    assert text.startswith("23 problems in ")
    assert text.endswith("... and 16 more; correct these first")


def test_a_wrong_setting_causes_no_second_problem(write: Write) -> None:
    assert set(problems(write(), ["train.method.kind=fulll"])) == {"train.method"}


def test_missing_tables_are_told(write: Write) -> None:
    found = problems(write(text="[data]\nname = 'x'\n"))
    assert set(found) == {"model.family", "model.base", "concepts"}
