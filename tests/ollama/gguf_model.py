"""Writes tiny GGUF models with random weights: a "llama" of two layers and a LLaVA projector."""

from pathlib import Path

import gguf
import numpy as np

from tests.ollama.language import FOLLOWS, SPECIALS, vocabulary

WIDTH = 64
HEADS = 4
LAYERS = 2
HIDDEN = 96
CONTEXT = 4096
IMAGE_SIZE = 112
PATCH = 14
STATES = tuple(FOLLOWS)
# The width holds one place per state, one that marks pieces of the picture, and the content.
PICTURE = len(STATES)
CONTENT = WIDTH - len(STATES) - 1
# How the last token's state stands in the stream, what following the grammar is worth, and how far
# words of one state lie apart: together they keep temperatures up to about 1 within the grammar.
STATE_SCALE = 4.0
FOLLOW_SCORE = 40.0
WORD_SCORE = 0.45
WORD_SCALE = 0.3
ATTENTION_SCALE = 3.0
PICTURE_SCALE = 4.0
PICTURE_LOOK = 2.5
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
Weights = dict[str, np.ndarray]


def write_text_model(path: Path, seed: int, name: str = "tiny") -> None:
    """Writes the language model; the same seed makes the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer)
    _write(writer, _text_weights(np.random.default_rng(seed)))


def write_projector(path: Path, seed: int, name: str = "tiny") -> None:
    """Writes the vision tower and the projector into the language model's width."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "mlp")
    for key, value in {
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN,
        "projection_dim": WIDTH,
        "block_count": 1,
        "attention.head_count": HEADS,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.48, 0.46, 0.41])
    writer.add_array("clip.vision.image_std", [0.27, 0.26, 0.28])
    _write(writer, _vision_weights(np.random.default_rng([seed, 1])))


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = vocabulary()
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_types([kinds[special] for _, _, special in tokens])
    writer.add_token_merges(["t h"])
    names = list(SPECIALS)
    writer.add_eos_token_id(names.index("<|end|>"))
    writer.add_bos_token_id(names.index("<|end|>"))
    writer.add_unk_token_id(names.index("<unk>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _text_weights(rng: np.random.Generator) -> Weights:
    states = [state for _, state, _ in vocabulary()]
    weights: Weights = {"output_norm.weight": np.ones(WIDTH)}
    no_picture = np.zeros((len(states), 1))
    words = WORD_SCALE * rng.standard_normal((len(states), CONTENT))
    weights["token_embd.weight"] = np.hstack([STATE_SCALE * _one_hot(states), no_picture, words])
    scores = WORD_SCORE * rng.standard_normal((len(states), CONTENT))
    weights["output.weight"] = np.hstack([_follow_scores(states), no_picture, scores])
    for layer in range(LAYERS):
        block = {
            "attn_norm": np.ones(WIDTH),
            "ffn_norm": np.ones(WIDTH),
            "attn_q": _matrix(rng, WIDTH, WIDTH, 1.3),
            "attn_k": _matrix(rng, WIDTH, WIDTH, 1.3),
            "attn_v": _matrix(rng, WIDTH, WIDTH, 1.0),
            "attn_output": _to_content(_matrix(rng, WIDTH, WIDTH, ATTENTION_SCALE)),
            "ffn_gate": _matrix(rng, HIDDEN, WIDTH, 1.0),
            "ffn_up": _matrix(rng, HIDDEN, WIDTH, 1.0),
            "ffn_down": _to_content(_matrix(rng, WIDTH, HIDDEN, 1.0)),
        }
        _look_at_picture(block)
        weights |= {f"blk.{layer}.{name}.weight": value for name, value in block.items()}
    return weights


def _one_hot(states: list[str]) -> np.ndarray:
    return np.array([[float(state == other) for other in STATES] for state in states])


def _follow_scores(states: list[str]) -> np.ndarray:
    """Row: a token that may come; column: the state before; zero where the grammar forbids it."""
    scores = {
        (before, after): FOLLOW_SCORE * share
        for before, row in FOLLOWS.items()
        for after, share in row.items()
    }
    unwanted = dict.fromkeys(("other", "role", "answer"), -FOLLOW_SCORE)
    return np.array(
        [
            [scores.get((before, state), unwanted.get(state, 0.0)) for before in STATES]
            for state in states
        ]
    )


def _matrix(rng: np.random.Generator, rows: int, columns: int, scale: float) -> np.ndarray:
    return rng.standard_normal((rows, columns)) * scale / np.sqrt(columns)


def _to_content(matrix: np.ndarray) -> np.ndarray:
    """Layers write no states: the grammar hangs on the last token alone."""
    matrix[: PICTURE + 1] = 0.0
    return matrix


def _look_at_picture(block: Weights) -> None:
    """Half of the heads look at the picture more than at the prompt, however long that is.

    The last two places of a head turn so slowly with the position that they read what is written.
    """
    size = WIDTH // HEADS
    for head in range(0, HEADS, 2):
        place = head * size + size - 2
        block["attn_q"][place] = 0.0
        block["attn_q"][place, :PICTURE] = PICTURE_LOOK
        block["attn_k"][place] = 0.0
        block["attn_k"][place, PICTURE] = PICTURE_LOOK


def _vision_weights(rng: np.random.Generator) -> Weights:
    patches = (IMAGE_SIZE // PATCH) ** 2
    weights: Weights = {
        "v.patch_embd.weight": rng.standard_normal((WIDTH, 3, PATCH, PATCH)) * 0.1,
        "v.class_embd": np.zeros(WIDTH),
        "v.position_embd.weight": rng.standard_normal((patches + 1, WIDTH)) * 0.3,
        "mm.0.weight": _matrix(rng, WIDTH, WIDTH, 2.0),
        "mm.0.bias": np.zeros(WIDTH),
        "mm.2.weight": _to_content(_matrix(rng, WIDTH, WIDTH, 2.0)),
        "mm.2.bias": PICTURE_SCALE * (np.arange(WIDTH) == PICTURE),
    }
    weights |= _normal("v.pre_ln") | _normal("v.post_ln")
    for name, rows, columns in (
        ("attn_q", WIDTH, WIDTH),
        ("attn_k", WIDTH, WIDTH),
        ("attn_v", WIDTH, WIDTH),
        ("attn_out", WIDTH, WIDTH),
        ("ffn_up", HIDDEN, WIDTH),
        ("ffn_down", WIDTH, HIDDEN),
    ):
        weights[f"v.blk.0.{name}.weight"] = _matrix(rng, rows, columns, 1.0)
        weights[f"v.blk.0.{name}.bias"] = np.zeros(rows)
    return weights | _normal("v.blk.0.ln1") | _normal("v.blk.0.ln2")


def _normal(name: str) -> Weights:
    return {f"{name}.weight": np.ones(WIDTH), f"{name}.bias": np.zeros(WIDTH)}


def _write(writer: gguf.GGUFWriter, weights: Weights) -> None:
    for name, value in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
