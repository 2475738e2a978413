"""What a finished model can be written as: each `save(destination, model)` gives the destination.

A save is atomic and never overwrites: FileExistsError when the destination exists.
"""

from tasks.train.formats import diffusers_folder, diffusers_lora, kohya_lora

OUTPUT_FORMATS = {
    "kohya_lora": kohya_lora.save,
    "diffusers_lora": diffusers_lora.save,
    "diffusers": diffusers_folder.save,
}

FORMAT_METHODS = {"kohya_lora": "lora", "diffusers_lora": "lora", "diffusers": "full"}
"""Which `[train.method]` kind each format is for."""
