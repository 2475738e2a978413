"""Tags: how a prompt is varied by leaving out, moving and recapitalising its tags.

Every effect draws for every tag from a generator of its own, seeded by the prompt and what the
caller gives: switching one effect on or off changes no draw of the others.
"""

import string
import unicodedata
from random import Random

from storage.digest import digest
from tasks.config.concepts import TextConfig
from tasks.wording.special import Special

Seed = tuple[bytes | str | int, ...]


def varies(text: TextConfig) -> bool:
    """Whether these settings change the tags of a prompt at all."""
    drops = text.tag_dropout_enable and text.tag_dropout_probability > 0
    caps = text.caps_randomize_enable and text.caps_randomize_probability > 0
    lower = text.caps_randomize_enable and text.caps_randomize_lowercase
    return text.enable_tag_shuffling or drops or caps or lower


def vary(prompt: str, text: TextConfig, special: Special, *key: bytes | str | int) -> str:
    """One version of a prompt: a function of the prompt, the settings and `key` alone.

    The first `keep_tags_count` tags stay where and what they are (`caps_randomize_lowercase` is
    for the whole prompt). Special tags are told by how the prompt writes them.

    Args:
        prompt: tags with `text.tag_delimiter` between them; the version has a space behind each.
        text: the settings.
        special: whether a tag is special.
        key: what the draws depend on, besides the prompt.
    """
    if not varies(text):
        return prompt
    parts = [part.strip() for part in prompt.split(text.tag_delimiter)]
    tags = [part for part in parts if part]
    kept, free = tags[: text.keep_tags_count], tags[text.keep_tags_count :]
    seed = (prompt, *key)
    stay = _stay(free, text, special, seed)
    if text.caps_randomize_enable and text.caps_randomize_lowercase:
        kept, free = [tag.lower() for tag in kept], [tag.lower() for tag in free]
    shown = _recapitalised(free, text, seed)
    if text.enable_tag_shuffling:
        draws = _draws("order", seed)
        place = [draws.random() for _ in free]
        stay = sorted(stay, key=place.__getitem__)
    between = f"{text.tag_delimiter.rstrip()} "
    return unicodedata.normalize("NFC", between.join([*kept, *(shown[n] for n in stay)]))


def _draws(effect: str, seed: Seed) -> Random:
    """Only its `random()` may be used: that alone is the same in every version of Python."""
    return Random(int.from_bytes(digest("tags/1", effect, *seed), "big"))


def _stay(tags: list[str], text: TextConfig, special: Special, seed: Seed) -> list[int]:
    """The positions of the tags that are not dropped."""
    chance, length = text.tag_dropout_probability, len(tags)
    if not text.tag_dropout_enable or not chance:
        return list(range(length))
    draws = _draws("drop-out", seed)
    match text.tag_dropout_mode:
        case "full":
            drop = [draws.random() < chance] * length
        case "random":
            drop = [draws.random() < chance for _ in tags]
        case "random_weighted":
            drop = [draws.random() < chance * (n + 1) / length for n in range(length)]
    return [n for n, tag in enumerate(tags) if not (drop[n] and _may_drop(tag, text, special))]


def _may_drop(tag: str, text: TextConfig, special: Special) -> bool:
    match text.tag_dropout_special_tags_mode:
        case "none":
            return True
        case "whitelist":
            return not special(tag)
        case "blacklist":
            return special(tag)


def _recapitalised(tags: list[str], text: TextConfig, seed: Seed) -> list[str]:
    modes, chance = text.caps_randomize_mode, text.caps_randomize_probability
    if not (text.caps_randomize_enable and modes and chance):
        return tags
    draws = _draws("capitals", seed)
    shown = []
    for tag in tags:
        changes, mode = draws.random() < chance, modes[int(draws.random() * len(modes))]
        shown.append(_capitals(tag, mode, draws) if changes else tag)
    return shown


def _capitals(tag: str, mode: str, draws: Random) -> str:
    match mode:
        case "capslock":
            return tag.upper()
        case "title":
            return string.capwords(tag)
        case "first":
            return tag.capitalize()
        case _:
            return "".join(
                letter.upper() if draws.random() < 0.5 else letter.lower() for letter in tag
            )
