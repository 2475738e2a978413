from tasks.config.loading import load_config
from tests.model_fixtures import TinyModels
from tests.projects import add_photo, prepare
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, concept


def test_a_real_project_is_prepared_from_the_import(
    onetrainer: OneTrainer, tiny_models: TinyModels
) -> None:
    photos = onetrainer.folder / "photos"
    photos.mkdir()
    add_photo(photos, "a", 1, "a boat", (160, 112))
    config = {
        **SD15_LORA,
        "base_model_name": str(tiny_models["sd15"]),
        "resolution": "64",
        "train_dtype": "FLOAT_32",
        "train_device": "cpu",
        "text_encoder": {"train": False},
    }
    result = onetrainer.imported(config, [concept(name="boats")])
    loaded = load_config(result.file, env={})  # with all checks of files and family
    assert loaded.concepts[0].path == str(photos)
    prepared = prepare(loaded)
    assert prepared.version.num_samples == 1
    assert prepared.rows["prompts"].to_pylist() == [["a boat"]]
