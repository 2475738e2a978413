"""The tiny model's language: real words in a small grammar, so that answers look like captions.

A state is what the last token was. From each state the weights favour the tokens of the states
that `FOLLOWS` names; which word of them comes is left to the random part of the weights, and so to
the picture and the prompt. No state of words comes twice in a sentence, so no word does.
"""

import re

WORDS = {
    "start": "The One This That Another Every Each Some",
    "adjective": """ bright dark large small old young quiet busy empty narrow wide tall low round
 flat wooden golden silver green blue red yellow white black grey brown pale clear misty sunny""",
    "noun": """ house bridge tower church castle garden field forest river lake beach street market
 boat ship train horse dog cat bird child woman man farmer sailor painter tree flower stone wall
 window door roof table chair lamp clock statue fountain ladder bicycle wagon barn mill harbour
 village city valley mountain meadow path station""",
    "verb": """ stands lies rests waits sits appears shines leans rises glows sleeps works moves
 stays hides looks grows floats turns remains""",
    "place": " near beside behind below above under before beyond inside outside around against",
    "second adjective": """ calm wild distant shallow deep frozen warm cold dry wet steep gentle
 heavy light soft rough smooth broken painted ancient modern crowded lonely shaded open""",
    "second noun": """ water grass sand snow sky clouds hills cliffs rocks trees houses fields boats
 flowers walls stairs steps columns arches windows doors roofs towers gardens vineyards islands
 waves shadows leaves branches pines lanterns benches railings tracks gates""",
    "time": " at during after until towards through with",
    "third noun": """ dawn noon dusk night sunrise sunset morning evening midnight spring summer
 autumn winter rain fog storm wind daylight moonlight thunder""",
    "full stop": ".",
}

SPECIALS = {
    "<|end|>": "end",
    "<|system|>": "role",
    "<|user|>": "role",
    "<|assistant|>": "answer",
    "<unk>": "role",
}

# What may follow, by its share of the score that the weights give to the best.
FOLLOWS: dict[str, dict[str, float]] = {
    "answer": {"start": 1, "brace": 0.6},
    "start": {"adjective": 1, "noun": 1},
    "adjective": {"noun": 1},
    "noun": {"verb": 1.02, "place": 1},
    "verb": {"place": 1},
    "place": {"second adjective": 1, "second noun": 1},
    "second adjective": {"second noun": 1},
    "second noun": {"time": 1, "full stop": 1.01},
    "time": {"third noun": 1},
    "third noun": {"full stop": 1},
    "full stop": {"end": 1, "quote": 0.7},
    # In answers that must be JSON the rest decides, once what the schema forbids is taken away.
    "brace": {"quote": 1, "closing brace": 0.7},
    "bracket": {"quote": 1, "closing bracket": 0.7},
    "quote": {"start": 1, "colon": 0.7, "closing brace": 0.7, "closing bracket": 0.7, "comma": 0.6},
    "colon": {"quote": 1, "digit": 0.7},
    "comma": {"quote": 1, "digit": 0.7},
    "digit": {"closing brace": 1, "closing bracket": 1, "comma": 0.8, "end": 1},
    "letter": {
        "letter": 0.7,
        "quote": 0.7,
        "closing brace": 0.7,
        "closing bracket": 0.7,
        "comma": 0.6,
    },
    "closing brace": {"end": 1, "closing brace": 0.8, "closing bracket": 0.8, "comma": 0.7},
    "closing bracket": {"end": 1, "closing brace": 0.8, "closing bracket": 0.7, "comma": 0.7},
    "role": {"start": 1},
    "end": {"start": 1},
    "other": {"quote": 0.8},
}

_BYTE_STATES = {
    '"': "quote",
    "{": "brace",
    "}": "closing brace",
    "[": "bracket",
    "]": "closing bracket",
    ":": "colon",
    ",": "comma",
    **dict.fromkeys("0123456789", "digit"),
    **{chr(code): "letter" for code in (*range(65, 91), *range(97, 123))},
}


def _byte_names() -> list[str]:
    """The printable characters by which byte-level BPE names the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in plain else next(spare)) for byte in range(256)]


def vocabulary() -> list[tuple[str, str, bool]]:
    """All tokens in order: the text as BPE writes it, its state, and whether it is a special."""
    names = _byte_names()
    tokens = [(text, state, True) for text, state in SPECIALS.items()]
    tokens += [
        (name, _BYTE_STATES.get(chr(byte), "other"), False) for byte, name in enumerate(names)
    ]
    for state, words in WORDS.items():
        space = "" if state in ("start", "full stop") else names[ord(" ")]
        tokens += [(space + word, state, False) for word in words.split() if word != "."]
    full_stop = names.index(".") + len(SPECIALS)
    tokens[full_stop] = (".", "full stop", False)
    return tokens


def token_ids(text: str) -> list[int]:
    """The tokens of a prompt: specials whole, everything else byte by byte."""
    names = list(SPECIALS)
    parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    return [
        number
        for part in parts
        for number in (
            [names.index(part)] if part in SPECIALS else [len(names) + b for b in part.encode()]
        )
    ]
