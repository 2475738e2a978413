"""What a finished model can be written as: each `save(destination, model)` gives the destination.

A save is atomic and never overwrites: FileExistsError when the destination exists. Words that were
trained together with a model lie beside it, in `words_folder(destination)`: files of LoRA with
tensors of words in them are refused by stock diffusers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.train.formats import diffusers_folder, diffusers_lora, embedding, kohya_lora, single_file
from tasks.train.formats.embedding import words_folder
from tasks.train.formats.model import TrainedModel

__all__ = ["OUTPUT_FORMATS", "words_folder"]

Save = Callable[[Path, TrainedModel], Path]


def _with_words(save: Save) -> Save:
    def save_both(destination: Path, model: TrainedModel) -> Path:
        if not model.embeddings:
            return save(destination, model)
        embedding.refuse_existing_words(destination)
        saved = save(destination, model)
        embedding.save_beside(destination, model)
        return saved

    return save_both


OUTPUT_FORMATS: Mapping[str, Save] = {
    "kohya_lora": _with_words(kohya_lora.save),
    "diffusers_lora": _with_words(diffusers_lora.save),
    "diffusers": _with_words(diffusers_folder.save),
    "single_file": _with_words(single_file.save),
    "embedding": embedding.save,
}
"""Which training methods each one holds: `tasks.families.output_formats`."""
