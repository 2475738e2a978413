"""`[[concepts]]`: a folder of images, how its prompts are made, and how it is cut and varied.

Names and meanings are OneTrainer's where it has the setting; the guide lists where defaults differ.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tasks.config.section import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Multiline = Literal["lines", "paragraphs", "joined"]
Positive = Annotated[float, Field(gt=0)]

SYSTEM_PROMPT = (
    "You write captions for training an image model. Answer with one caption of at most 30 words, "
    "as comma-separated phrases: the subject first, then materials, textures, colours, light. Name "
    "only what can be seen, no guesses, no introduction. If nothing can be told from the crop, "
    "answer unclear_crop."
)
USER_PROMPT = "This is a detail of a larger photo. About the whole photo: {context}"


def _listed(value: Any) -> Any:
    """One text where a list of them is meant."""
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


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
    enable_captioning: bool = False
    """Let a vision model caption a share of the tiles; see docs/captioning.md."""
    caption_full_images: bool = False
    """Also caption whole photos without a prompt; needs neither tiles nor `enable_captioning`."""
    caption_probability: Probability = 0.2
    """The share of tiles that get a caption. Raising it only adds tiles."""
    caption_mode: Literal["replace", "append"] = "replace"
    """A tile trains on its caption alone, or on its source's prompt followed by the caption."""
    caption_protocol: Literal["ollama", "openai"] = "ollama"
    """What the server speaks; `openai`: vLLM, llama.cpp's server, LM Studio."""
    caption_endpoint: Texts = ("http://localhost:11434",)
    """Address of the server, or a list: several servers share the work. A key that it wants comes
    from the environment, TILEWRIGHT_CAPTION_API_KEY."""
    caption_model: str = Field(default="qwen2.5vl:3b", min_length=1)
    """The vision model, by the server's name for it."""
    caption_system_prompt: str = SYSTEM_PROMPT
    """What the model is told about its task."""
    caption_user_prompt: str = Field(default=USER_PROMPT, min_length=1)
    """What is asked with each picture. `{context}` is the first prompt of the photo; also
    `{concept}`, `{file_name}`, `{scale}` and `{rect}` (left, top, width, height in pixels)."""
    caption_image_px: int = Field(default=768, ge=16)
    """Long side of the picture that is sent; smaller tiles are sent as they are."""
    caption_max_tokens: int = Field(default=256, ge=1)
    """Longer answers are cut off and are no captions."""
    caption_temperature: float = Field(default=0.0, ge=0)
    """0 gives the same caption for the same picture."""
    caption_json_schema: str = ""
    """A JSON schema of the answer, as text; the caption is made of its values. Default: no JSON."""
    caption_timeout: Positive = 120.0
    """Seconds that one request may take."""
    caption_max_retries: int = Field(default=4, ge=0)
    """So often a request that failed is made again, later and later."""
    caption_auto_pull: bool = True
    """Let Ollama download the model if it has it not."""
    caption_parallel: int | None = Field(default=None, ge=1)
    """Requests at a time per server; default: as many as turn out to make it faster."""
    caption_min_success: Probability = 0.9
    """If a smaller share of the chosen tiles could be captioned, the run stops; what was captioned
    is kept."""
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
    type: Literal["standard", "validation", "prior_prediction"] = "standard"
    """`validation`: never trained on; every sample once, without augmentation or text variation.
    `prior_prediction`: trained to stay as the model without its adapter predicts."""
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
