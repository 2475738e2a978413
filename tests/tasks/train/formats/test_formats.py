import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tasks.families import FAMILIES
from tasks.families.output_formats import (
    FORMAT_METHODS,
    SINGLE_FILE_PIPELINES,
    allowed_formats,
    why_not,
)
from tasks.families.sources import resolve_model
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.original_transformers import LAYOUTS
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import (
    FULL,
    LORA,
    WORDS,
    adapt,
    component_of,
    load,
    predict,
    stock,
    trained,
)

METHODS = {"full": FULL, "lora": LORA, "embedding": WORDS}
GOLDEN = Path(__file__).with_name("golden_keys.json")


def some_model(folder: Path, name: str, kind: str, dtype: str = "float32"):
    """A model of this method: everything of a full one, a LoRA of one layer, or a word."""
    family = FAMILIES[name]
    words, parts = {}, {}
    if kind == "embedding":
        widths = {
            one.name: load(folder, name, one.model).get_input_embeddings().weight.shape[1]
            for one in family.text_encoders
        }
        words = {"<boat>": {one: torch.randn(2, width) for one, width in widths.items()}}
    elif kind == "full":
        parts = {"denoiser": load(folder, name, family.denoiser).state_dict()}
    else:
        denoiser = load(folder, name, family.denoiser)
        parts = {"denoiser": adapt(denoiser, METHODS[kind], family.lora_targets)}
        for one in family.text_encoders:
            if one.lora_targets:
                encoder = load(folder, name, one.model)
                parts[one.name] = adapt(encoder, METHODS[kind], one.lora_targets)
    return trained(folder, name, METHODS[kind], parts, embeddings=words, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        (name, layout)
        for name, family in FAMILIES.items()
        for kind in METHODS
        for layout in allowed_formats(family, kind)
        if layout != "diffusers"
    ],
)
def test_the_names_in_files_stay_as_they_are(
    tiny_models: TinyModels, tmp_path: Path, name: str, layout: str, request: pytest.FixtureRequest
) -> None:
    """`pytest THIS --golden=write` accepts what is there now: files of others may depend on it."""
    kind = next(kind for kind in METHODS if layout in allowed_formats(FAMILIES[name], kind))
    model = some_model(tiny_models[name], name, kind, dtype="bfloat16")
    path = OUTPUT_FORMATS[layout](tmp_path / "x.safetensors", model)
    with safe_open(path, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.offset_keys()}
        assert {file.get_slice(key).get_dtype() for key in shapes} == {"BF16"}
    found = {"count": len(shapes), "keys": samples_of(shapes)}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if request.config.getoption("--golden") == "write":
        golden[f"{name} {layout}"] = found
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert golden.get(f"{name} {layout}") == found


def samples_of(shapes: dict[str, list[int]]) -> dict[str, str]:
    """One name for each shape that names have when their numbers are left out."""
    kinds: dict[str, str] = {}
    for key in sorted(shapes):
        kinds.setdefault("".join(sign for sign in key if not sign.isdigit()), key)
    return {key: "x".join(map(str, shapes[key])) for key in kinds.values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_diffusers_folder_loads_with_stock_diffusers(
    tiny_models: TinyModels, tmp_path: Path, name: str
) -> None:
    import diffusers

    family = FAMILIES[name]
    pipeline = stock(tiny_models[name], name)
    before = predict(pipeline, name)
    parts = {}
    for part in ("denoiser", family.text_encoders[0].name):
        module = getattr(pipeline, component_of(name, part))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        parts[part] = module.state_dict()
    model = trained(tiny_models[name], name, FULL, parts)
    folder = OUTPUT_FORMATS["diffusers"](tmp_path / name, model)
    loaded = getattr(diffusers, family.pipeline).from_pretrained(folder, local_files_only=True)
    for part, state in parts.items():
        other = getattr(loaded, component_of(name, part)).state_dict()
        assert all(torch.equal(other[key], value) for key, value in state.items())
    assert torch.equal(predict(loaded, name), predict(pipeline, name))
    assert (predict(loaded, name) - before).abs().max() > 0.001
    assert '"tilewright.dataset": "harbour@3"' in (folder / "tilewright.json").read_text()
    assert (folder.stat().st_mode & 0o777) == 0o755
    # The folder is itself a base model of that family.
    assert resolve_model(str(folder), family).kind == "diffusers"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("layout", OUTPUT_FORMATS)
def test_never_overwrites(tiny_models: TinyModels, tmp_path: Path, layout: str) -> None:
    model = some_model(tiny_models["sd15"], "sd15", FORMAT_METHODS[layout][0])
    target = tmp_path / "mine"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match="never overwritten"):
        OUTPUT_FORMATS[layout](target, model)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("layout", OUTPUT_FORMATS)
def test_refuses_what_another_method_trained(
    tiny_models: TinyModels, tmp_path: Path, layout: str
) -> None:
    is_lora = "lora" in FORMAT_METHODS[layout]
    model = trained(tiny_models["sd15"], "sd15", FULL if is_lora else LORA, {})
    with pytest.raises(ValueError, match="LoRA|words"):
        OUTPUT_FORMATS[layout](tmp_path / "x", model)
    assert list(tmp_path.iterdir()) == []


def test_the_tables_agree() -> None:
    assert FORMAT_METHODS.keys() == OUTPUT_FORMATS.keys()
    transformers = {name for name, what in SINGLE_FILE_PIPELINES.items() if what == "transformer"}
    assert transformers == LAYOUTS.keys()
    for family in FAMILIES.values():
        for kind in ("full", "lora", "loha", "lokr", "embedding"):
            allowed = allowed_formats(family, kind)
            assert allowed, (family.name, kind)
            for layout in FORMAT_METHODS:
                assert (why_not(family, kind, layout) is None) == (layout in allowed)
