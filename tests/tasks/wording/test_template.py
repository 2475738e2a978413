import unicodedata

import pytest

from tasks.wording.template import NAMES, check_template, filler


def test_placeholders_are_filled_and_braces_can_be_written() -> None:
    fill = filler("photo of {concept}, {prompt} {{x}}", "sks dog")
    assert fill("in the {rain}") == "photo of sks dog, in the {rain} {x}"
    assert fill("") == ""
    assert filler("{prompt}", "c")("a {prompt}") == "a {prompt}"


def test_the_result_is_nfc() -> None:
    template = unicodedata.normalize("NFD", "é {prompt}")
    assert filler(template, "c")("a") == "é a"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("photo of sks dog", "must contain {prompt}"),
        ("{{prompt}}", "must contain {prompt}"),
        ("{promt}", "unknown placeholder {promt}; there are {prompt} and {concept}"),
        ("{prompt} {}", "unknown placeholder {}"),
        ("{prompt} {0}", "unknown placeholder {0}"),
        ("{prompt!r}", "unknown placeholder {prompt!r}"),
        ("{prompt:>9}", "unknown placeholder {prompt:>9}"),
        ("{prompt.x}", "unknown placeholder {prompt.x}"),
        ("{prompt} :}", "a brace without its partner"),
        ("{prompt", "a brace without its partner"),
    ],
)
def test_a_wrong_template_is_explained(template: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_template(template, NAMES, needed="prompt")
    assert told in str(caught.value)
