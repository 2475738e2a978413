"""Answers of real models: which are captions, what is left of them, and why others are none."""

import json
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.captions.cleaning import Caption, clean
from tasks.captions.protocols.base import Answer
from tasks.config.concepts import USER_PROMPT

ASKED = USER_PROMPT.format(context="a fishing boat in the harbour at dawn")
REASONS = {
    *("empty", "unclear", "refusal", "repetition", "cut off", "echo", "not the JSON asked for"),
}


def cleaned(text: str, user_prompt: str = ASKED, **more: object) -> Caption:
    return clean(Answer(text, "stop"), user_prompt, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "weathered timber planks, peeling white paint, soft evening light",
        "I-beam with rivets, rusted steel, overcast light",
        "I beams of a bridge, riveted steel",
        "I ♥ NY printed on a white mug",
        "I can see through the window: a garden, wet glass",
        "No entry sign on a wall, red and white enamel",
        "No parking, painted in white letters on tarmac",
        "Sorry-looking dog on a wet doorstep",
        "Sorry sight of a wrecked hull on a beach",
        "Apology letter pinned to a board, yellowed paper",
        "unclear sky above a dim horizon, low contrast",
        "Unclear reflections in dark water",
        "unclear writing on a crop of old parchment",
        "red, red and more red roses",
        "red roses, red petals, red stems, red thorns, red leaves",
        "brick wall, brick floor, brick arch, brick column",
        "a man, a woman, a child, a dog, a cat",
        "tick tock tick tock, written on a clock face",
        "a photo of a church tower",
        "A detail of a carved door, oak, brass hinges",
        "This is a detail shot of rigging, hemp ropes, brass",
        "Please keep off the grass, a sign on a lawn",
        "Please do not touch, printed sign beside a marble bust",
        "As an aircraft passes, contrails in a blue sky",
        "As a whole, a stone bridge, moss, three arches",
        "There is no wind: flat water, mirrored masts",
        "Could you spare a coin, cardboard sign, felt pen",
        "Unfortunately placed lamp post in front of a church",
        "AI generated poster on a wall",
        "Wall",
        "7",
        "木造の船、朝の光、港",
        "старая кирпичная стена, мох",
        "Fachwerkhaus, Gefache aus Lehm, dunkle Eichenbalken",
        "le quai désert à l’aube",
        '"Exit" sign above a steel door, "Pull" on a plate',
        "'Open' sign in a window",
        "Caption competition poster on a pub wall",
        "Answer phone on a desk: black plastic, coiled cord",
        "<b>bold</b> lettering on a shop front",
        "50% off, sticker on a shop window",
        "code on a screen: ```print```, dark theme",
        "a fishing boat in the harbour at dawn",
    ],
)
def test_captions_of_all_kinds_are_kept_as_they_are(text: str) -> None:
    assert cleaned(text) == Caption(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *[("", "empty"), (" \n\t", "empty"), ('""', "empty"), ("...", "empty"), ("🙂", "empty")],
        *[("```\n```", "empty"), ("<think>Hm.</think>", "empty"), ("Caption: ", "empty")],
        *[("unclear_crop", "unclear"), ("Unclear_Crop.", "unclear"), ("UNCLEAR CROP", "unclear")],
        *[("Answer: unclear-crop", "unclear"), ("`unclear_crop`", "unclear")],
        *[("unanswerable", "unclear"), ("The crop is blurred: unclear_crop", "unclear")],
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I’m sorry, I cannot identify people.", "refusal"),
        ("I am unable to describe this image.", "refusal"),
        ("I cannot see any image.", "refusal"),
        ("I can't tell what this is", "refusal"),
        ("I don't see an image attached.", "refusal"),
        ("Unfortunately, I cannot view images.", "refusal"),
        ("Sorry, I can't assist with that request.", "refusal"),
        ("Sorry.", "refusal"),
        ("Sorry but there is nothing here", "refusal"),
        ("Sorry for the confusion, there is no picture.", "refusal"),
        ("Apologies, but the picture is missing", "refusal"),
        ("As an AI language model, I cannot see", "refusal"),
        ("As a language model I have no eyes", "refusal"),
        ("There is no image provided", "refusal"),
        ("No image was provided.", "refusal"),
        ("Please provide the image you would like me to describe.", "refusal"),
        ("Could you upload the photo?", "refusal"),
        ('"I am sorry, I cannot do this."', "refusal"),
        ("a wall, " * 30, "repetition"),
        ("the the the the the the the the", "repetition"),
        ("a red brick wall with moss " + "and moss " * 40, "repetition"),
        ("blue tiles white tiles " * 10, "repetition"),
        (ASKED, "echo"),
        (ASKED.upper(), "echo"),
        ("This is a detail of a larger photo showing a mast.", "echo"),
    ],
)
def test_what_is_no_caption(text: str, reason: str) -> None:
    assert cleaned(text).unusable == reason


def test_a_short_question_is_repeated_only_as_a_whole() -> None:
    assert cleaned("What is it?", "What is it?").unusable == "echo"
    assert cleaned("What is it? A wall", "What is it?").unusable is None
    assert cleaned("a wall", "").unusable is None


def test_an_answer_that_was_cut_off_is_none() -> None:
    found = clean(Answer("a wall,\n moss", "length"), ASKED)
    assert found == Caption("a wall, moss", "cut off")
    assert clean(Answer("<think>I wonder", "length"), ASKED).unusable == "cut off"


@pytest.mark.parametrize(
    "text",
    [
        "a mossy wall",
        "  a\tmossy\r\n wall\n",
        "a\x00mossy\x1b wall\x7f",
        "a mossy\u2028wall",
        '"a mossy wall"',
        "“a mossy wall”",
        "'a mossy wall'",
        "« a mossy wall »",
        "Caption: a mossy wall",
        "**Caption:** a mossy wall",
        'Description: "a mossy wall"',
        "ANSWER : a mossy wall",
        "Caption: Caption: a mossy wall",
        "\"Caption: 'a mossy wall'\"",
        "```\na mossy wall\n```",
        "```text\na mossy wall\n```",
        "<think>A wall? Moss!\n</think>a mossy wall",
        "<THINK>A wall?</THINK>\n\na mossy wall",
        "<thinking>one</thinking><reasoning>two</reasoning>a mossy wall",
        "The prompt held the opening tag, so: a wall? </think>\n\na mossy wall",
        "a mossy wall<think>Was that right?",
    ],
)
def test_what_is_around_a_caption_is_taken_off(text: str) -> None:
    assert cleaned(text) == Caption("a mossy wall")


def test_captions_are_in_normal_form() -> None:
    found = cleaned("cafe\u0301 in Go\u0308ttingen")
    assert found == Caption("café in Göttingen")
    assert unicodedata.is_normalized("NFC", found.text)


SCHEMA = {
    "type": "object",
    "properties": {
        "subject": {"type": "string"},
        "details": {"type": "array", "items": {"type": "string"}},
        "light": {},
    },
    "required": ["subject"],
}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"subject": "a wall"}', "a wall"),
        ('{"light": "soft", "details": ["moss", "brick"], "subject": "a wall"}',) * 1
        + ("a wall, moss, brick, soft",),
        ('```json\n{"subject": "a wall"}\n```', "a wall"),
        ('<think>{"subject": 1}</think>{"subject": "a wall"}', "a wall"),
        ('{"subject": "a wall", "light": null, "details": []}', "a wall"),
        ('{"subject": "a wall", "light": true, "more": "no"}', "a wall"),
        ('{"subject": "a wall", "light": {"from": "left", "kind": "soft"}}', "a wall, left, soft"),
        ('{"subject": 7, "light": " "}', "7"),
        ('{"subject": "a\\nwall"}', "a wall"),
    ],
)
def test_the_values_of_an_object_become_the_caption(answer: str, text: str) -> None:
    assert cleaned(answer, schema=SCHEMA) == Caption(text)


@pytest.mark.parametrize(
    "answer",
    [
        *["a wall", "", "{", "[]", '"a wall"', "null", '{"light": "soft"}', "{}"],
        *['{"subject": "a wall"', '{"subject": "a wall"} and more', "[" * 100_000],
        *['{"subject":' * 5_000 + "1" + "}" * 5_000, '{"subject": ' + "9" * 9_999 + "}"],
    ],
)
def test_another_answer_than_the_object(answer: str) -> None:
    assert cleaned(answer, schema=SCHEMA).unusable == "not the JSON asked for"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"subject": ""}', "empty"),
        ('{"subject": null}', "empty"),
        ('{"subject": "unclear_crop"}', "unclear"),
        ('{"subject": "I\'m sorry, I cannot"}', "refusal"),
        (json.dumps({"subject": "wall " * 30}), "repetition"),
    ],
)
def test_an_object_may_hold_no_caption(answer: str, reason: str) -> None:
    assert cleaned(answer, schema=SCHEMA).unusable == reason


PIECES = [
    *["Caption:", "**Answer:** ", '"', "'", "“", "”", "«", "»", "```", "```json\n", " ", "\n"],
    *["<think>", "</think>", "<Thinking>", "</reasoning>", "unclear_crop", "I'm sorry", "No image"],
    *["a wall", "moss", "e\u0301", "\u0301", "\ud800", "\0", "{", "}", '"subject":', "[", "]", ","],
]
TEXTS = st.one_of(
    st.text(alphabet=st.characters(), max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=8).map("".join),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(["stop", "length"]), st.sampled_from([None, SCHEMA]))
def test_every_answer_is_a_caption_or_has_a_reason(
    text: str, asked: str, stopped: str, schema: dict[str, object] | None
) -> None:
    found = clean(Answer(text, stopped), asked, schema)
    assert found.unusable is None or found.unusable in REASONS
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", found.text)
    assert found.text == " ".join(found.text.split())
    found.text.encode()
    if found.unusable is None:
        assert unicodedata.is_normalized("NFC", found.text)
        assert re.search(r"\w", found.text)
        assert clean(Answer(found.text, "stop"), asked) == found
