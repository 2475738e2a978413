"""`[[concepts]]`: a folder of images, how its prompts are made, and how it is cut and varied.

Names and meanings are OneTrainer's where it has the setting; the guide lists where defaults differ.
"""

from typing import Annotated, Literal

from pydantic import Field

from tasks.config.section import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Multiline = Literal["lines", "paragraphs", "joined"]


class TextConfig(Section):
    """Per-concept changes of prompts.

    Draws depend on `data.seed`, the view and the number of the text variation alone.
    """

    prompt_template: str = "{prompt}"
    """Every prompt is put into this, such as `photo of sks dog, {prompt}`; `{concept}` also works.
    An empty prompt stays empty."""
    tag_delimiter: str = Field(default=",", min_length=1)
    """What separates the tags of a prompt."""
    keep_tags_count: int = Field(default=1, ge=0)
    """So many tags at the front are never moved, dropped or recapitalised."""
    enable_tag_shuffling: bool = False
    """Put the tags behind the kept ones in a random order."""
    tag_dropout_enable: bool = False
    """Leave tags out at random."""
    tag_dropout_mode: Literal["full", "random", "random_weighted"] = "full"
    """`full`: all tags behind the kept ones or none; `random`: each by itself; `random_weighted`:
    likelier the further back it stands."""
    tag_dropout_probability: Probability = 0.0
    """How likely a tag (with `full`: all of them) is left out."""
    tag_dropout_special_tags_mode: Literal["none", "whitelist", "blacklist"] = "none"
    """`whitelist`: special tags are never dropped; `blacklist`: only special tags are dropped."""
    tag_dropout_special_tags: tuple[str, ...] = ()
    """The special tags."""
    tag_dropout_special_tags_path: str | None = None
    """A text file of further special tags, one per line or with the delimiter between them
    (regular expressions: one per line)."""
    tag_dropout_special_tags_regex: bool = False
    """Special tags are regular expressions that a whole tag must match."""
    caps_randomize_enable: bool = False
    """Change the capitalisation of tags at random."""
    caps_randomize_mode: tuple[Literal["capslock", "title", "first", "random"], ...] = (
        *("capslock", "title", "first", "random"),
    )
    """Which of these is drawn for a tag that changes."""
    caps_randomize_probability: Probability = 0.0
    """How likely a tag changes."""
    caps_randomize_lowercase: bool = False
    """Write prompts in lower case first."""


class DetailCrops(Section):
    """Tiles cut from enlarged views of large images. 0 means 0 unless said otherwise."""

    enabled: bool = False
    """Master switch."""
    tile_resolution: int | None = Field(default=None, gt=0)
    """Edge of the square tiles in pixels; default: the training resolution."""
    overlap: int | None = Field(default=None, ge=0)
    """Least number of pixels that neighbours share; default: an eighth of the tile."""
    scales: tuple[Annotated[float, Field(gt=0)], ...] = (2.0,)
    """For each, the short side of the source becomes training resolution x scale."""
    include_context_tiles: bool = False
    """Also cut tiles from the source at short side = tile_resolution."""
    include_full_images: bool = True
    """Keep the whole image as a sample of its own."""
    blank_std_threshold: float = Field(default=0.004, ge=0)
    """Tiles with a luma standard deviation (0..1) below this are blank; 0 switches the test off."""
    blank_edge_threshold: float = Field(default=0.0, ge=0)
    """Tiles with a smaller share of Canny edge pixels are blank; 0 switches the test off."""
    max_upscale: float | None = Field(default=None, gt=0)
    """Skip a scale that would enlarge a source more than this; default: no limit."""
    regenerate_each_epoch: bool = False
    """Give each epoch a grid of its own: the tiles are moved, with full coverage every time."""
    grid_phases: int | None = Field(default=None, ge=1, le=1000)
    """How many grids `regenerate_each_epoch` takes turns with; default: one per epoch, at most 8.
    With `train.max_steps`: 8."""
    tiles_per_source_per_epoch: int = Field(default=0, ge=0)
    """At most so many tiles of a source are trained in an epoch, a new random choice each time;
    0 means all."""
    uncaptioned_prompt: Literal["inherit", "empty"] = "inherit"
    """What a tile without a caption of its own trains on: its source's prompt, or the empty one."""
    parallel_workers: int = Field(default=0, ge=0)
    """Threads that cut tiles of this concept; 0 means `data.threads`."""
    save_to_disk: bool = False
    """Write each kept tile as a PNG with a `.txt` sidecar. An edited sidecar wins from the next run
    on."""
    save_directory: str | None = None
    """Local folder for `save_to_disk`, one per concept."""
    save_max_tiles_per_image: int = Field(default=0, ge=0)
    """At most so many tiles of a source are written, spread over it; 0 means all."""


class ImageConfig(Section):
    """Per-concept image settings: geometry, augmentation, masks.

    A *fixed* switch applies the strength itself, a *random* one draws up to it per sample and
    variation; where both are on, random counts.
    """

    enable_crop_jitter: bool = True
    """Move the bucket crop by a seeded random offset; off means a centre crop."""
    enable_random_flip: bool = False
    """Mirror every other sample left to right."""
    enable_fixed_flip: bool = False
    """Mirror every sample left to right."""
    enable_random_rotate: bool = False
    """Turn by a random angle; what comes in from outside is mirrored, never black."""
    enable_fixed_rotate: bool = False
    """Turn by exactly the angle."""
    random_rotate_max_angle: float = Field(default=0.0, ge=-180, le=180)
    """The angle of both, in degrees; 0 changes nothing."""
    enable_random_brightness: bool = False
    """Multiply brightness by a factor within 1 - strength .. 1 + strength."""
    enable_fixed_brightness: bool = False
    """Multiply brightness by 1 + strength."""
    random_brightness_max_strength: float = Field(default=0.0, ge=-1, le=10)
    """The strength of both; 0 changes nothing."""
    enable_random_contrast: bool = False
    """Multiply contrast by a factor within 1 - strength .. 1 + strength."""
    enable_fixed_contrast: bool = False
    """Multiply contrast by 1 + strength."""
    random_contrast_max_strength: float = Field(default=0.0, ge=-1, le=10)
    """The strength of both; 0 changes nothing."""
    enable_random_saturation: bool = False
    """Multiply saturation by a factor within 1 - strength .. 1 + strength."""
    enable_fixed_saturation: bool = False
    """Multiply saturation by 1 + strength."""
    random_saturation_max_strength: float = Field(default=0.0, ge=-1, le=10)
    """The strength of both; 0 changes nothing."""
    enable_random_hue: bool = False
    """Turn the hue by a part of the colour circle within -strength / 2 .. strength / 2."""
    enable_fixed_hue: bool = False
    """Turn the hue by strength / 2."""
    random_hue_max_strength: float = Field(default=0.0, ge=-1, le=1)
    """The strength of both; 0 changes nothing."""
    mask_source: Literal["none", "file", "alpha"] = "none"
    """Where a sample's mask comes from: `file`: NAME-masklabel.png beside the image (white counts,
    black does not); `alpha`: the image's own transparency. Without one, everything counts."""
    enable_resolution_override: bool = False
    """Use `resolution_override` instead of `data.resolution`."""
    resolution_override: str = "512"
    """Same syntax as `data.resolution`."""
    detail_crops: DetailCrops = DetailCrops()


class Concept(Section):
    """A folder of images with its prompt source, augmentation and crop settings."""

    name: str = ""
    """Label; must be unique. Default: the folder's name."""
    path: str
    """Folder of images (local or any fsspec URL)."""
    enabled: bool = True
    """A disabled concept is left out."""
    type: Literal["standard", "validation"] = "standard"
    """`validation`: never trained on; every sample once, without augmentation or text variation."""
    include_subdirectories: bool = False
    """Also take images in subfolders (dot-folders are skipped)."""
    prompt_source: Literal["sidecar", "filename", "text_file", "jsonl"] = "sidecar"
    """`sidecar`: the .txt (else .caption) file beside the image; `filename`: its stem; `text_file`:
    a line of `prompt_path`; `jsonl`: the `text` of the line with its `file_name`."""
    prompt_path: str | None = None
    """The file of `text_file` or `jsonl`; default of `jsonl`: metadata.jsonl in the folder."""
    multiline: Multiline = "lines"
    """What a prompt is: each non-empty line of a sidecar; each paragraph (blank lines between), its
    lines joined; or all lines joined."""
    image_variations: int = Field(default=1, ge=1, le=1000)
    """So many differently jittered and augmented versions of each sample take turns in training."""
    text_variations: int = Field(default=1, ge=1, le=1000)
    """So many differently drawn versions of each prompt are cached; training draws among them."""
    repeats: float = Field(default=1.0, ge=0)
    """How often each sample is trained per epoch; 0.5 trains a seeded random half."""
    samples_per_epoch: int | None = Field(default=None, ge=0)
    """Train exactly so many samples of this concept per epoch, a random choice each time, instead
    of `repeats`."""
    loss_weight: float = Field(default=1.0, ge=0)
    """Multiplier of this concept's loss."""
    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
