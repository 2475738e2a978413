"""Load a model's components or its whole pipeline from whatever the base model is."""

import importlib
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter, Method
from tasks.families.adapters import merge_adapter
from tasks.families.base import Family
from tasks.families.digests import component_digest, weight_files
from tasks.families.sources import (
    PIPELINE_FILE,
    ModelSource,
    backup_weights,
    read_backup,
    read_config,
    resolve_model,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "ModelSource",
    "component_digest",
    "load_component",
    "load_pipeline",
    "quiet_libraries",
    "read_config",
    "resolve_model",
]

_LIBRARIES = ("diffusers", "transformers")
_NEVER = ("safety_checker", "feature_extractor", "image_encoder")


def load_component(
    source: ModelSource,
    family: Family,
    component: str,
    dtype: "torch.dtype",
    device: "torch.device | str" = "cpu",
) -> Any:
    """A module in eval mode (frozen), a tokenizer or a scheduler, by its subfolder name."""
    if source.base is not None:
        loaded = load_component(source.base, family, component, dtype, device)
        trained = backup_weights(source, family, component)
        if trained is not None:
            _apply_backup(source, trained, loaded)
        return loaded
    kind = _class_of(source, component)
    if not _is_module(kind):
        # Tokenizers and schedulers always come from the config folder.
        return kind.from_pretrained(source.folder, subfolder=component, local_files_only=True)
    in_file = source.kind == "single_file" and component in family.single_file_prefixes
    with quiet_libraries(), _no_code(source.path):
        if in_file:
            module = _load_from_file(source, family, component, dtype)
        else:
            module = _load_from_folder(source, component, dtype)
    return module.to(device).eval().requires_grad_(False)


def load_pipeline(
    source: ModelSource,
    family: Family,
    dtype: "torch.dtype",
    device: "torch.device | str" = "cpu",
    given: Mapping[str, Any] | None = None,
) -> Any:
    """The stock diffusers pipeline without safety checker and image encoder.

    `given` are components that are there already, by their subfolder names: they are not loaded.
    """
    import diffusers

    index = _pipeline_index(source)
    parts = dict(given or {})
    for name in index:
        if name not in (*_NEVER, *parts):
            parts[name] = load_component(source, family, name, dtype, device)
    absent = {name: None for name in _NEVER if name in index}
    # diffusers looks at the class of what it is given, which a processor has with torchvision only.
    late = {name: parts.pop(name) for name in list(parts) if _is_processor(index[name][1])}
    # from_pretrained, not the constructor: the index also holds settings of the pipeline.
    with quiet_libraries():
        pipeline = getattr(diffusers, family.pipeline).from_pretrained(
            source.folder,
            local_files_only=True,
            dtype=dtype,
            **absent,
            **dict.fromkeys(late),
            **parts,
        )
    pipeline.register_modules(**late)
    return pipeline


def _load_from_folder(source: ModelSource, component: str, dtype: "torch.dtype") -> Any:
    chosen = weight_files(source.folder / component)
    return _class_of(source, component).from_pretrained(
        source.folder,
        subfolder=component,
        variant=chosen.variant,
        use_safetensors=chosen.safetensors,
        dtype=dtype,
        local_files_only=True,
    )


def _load_from_file(
    source: ModelSource, family: Family, component: str, dtype: "torch.dtype"
) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    others = {name: None for name in _pipeline_index(source) if name != component}
    try:
        pipeline = getattr(diffusers, family.pipeline).from_single_file(
            str(source.path),
            config=str(source.folder),
            dtype=dtype,
            local_files_only=True,
            **others,
        )
    except SingleFileComponentError as error:
        raise ValueError(_incomplete(source, component)) from error
    module = getattr(pipeline, component)
    # diffusers leaves text encoder tensors that it did not find without data.
    if any(tensor.is_meta for tensor in module.state_dict().values()):
        raise ValueError(_incomplete(source, component))
    return module


def _incomplete(source: ModelSource, component: str) -> str:
    return (
        f"{source.path}: the file lacks weights of {component!r}, as {source.folder / component} "
        "describes it; is that the config of this model, and does the file hold the whole model?"
    )


def _pipeline_index(source: ModelSource) -> dict[str, tuple[str, str]]:
    """Component name to (library, class) from model_index.json."""
    path = source.folder / PIPELINE_FILE
    index = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }


def _class_of(source: ModelSource, component: str) -> Any:
    index = _pipeline_index(source)
    if component not in index:
        raise ValueError(
            f"{source.folder}: this model has no {component!r}; it has: {', '.join(sorted(index))}"
        )
    library, name = index[component]
    # A model folder is data: it must not be able to name a module of its own to import.
    if library not in _LIBRARIES:
        raise ValueError(
            f"{source.folder / PIPELINE_FILE}: {component!r} is of library {library!r}; "
            f"allowed: {', '.join(_LIBRARIES)}"
        )
    # Of a processor of text and images only the tokenizer is used; the rest needs torchvision.
    if _is_processor(name):
        name = "AutoTokenizer"
    return getattr(importlib.import_module(library), name)


def _is_processor(class_name: str) -> bool:
    return class_name.endswith("Processor")


def _is_module(kind: Any) -> bool:
    import torch

    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars, and no warnings of the libraries about files that we chose on purpose."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(log, log.get_verbosity()) for log in (diffusers_logging, transformers_logging)]
    for log, _ in levels:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
            log.enable_progress_bar()


@contextmanager
def _no_code(path: Path) -> Iterator[None]:
    try:
        yield
    except (pickle.UnpicklingError, OSError) as error:
        # diffusers hides the reason in the context of an OSError.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, pickle.UnpicklingError):
            cause = cause.__context__
        if cause is None:
            raise
        raise ValueError(
            f"{path}: this file holds more than weights and is not loaded, since that could run "
            "code; convert it to .safetensors with a tool you trust"
        ) from error


def _apply_backup(source: ModelSource, trained: Path, module: Any) -> None:
    """Put what a backup trained of a component into the freshly loaded base, in place."""
    from pydantic import TypeAdapter
    from safetensors.torch import load_file

    method: Any = TypeAdapter(Method).validate_python(read_backup(source)["method"])
    weights = load_file(trained)
    if isinstance(method, Adapter):
        merge_adapter(module, method, weights)
    else:
        module.load_state_dict(weights)
