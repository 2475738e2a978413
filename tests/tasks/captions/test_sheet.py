"""The page of captions: what it tells, and that nothing in it but itself is markup."""

import hashlib
import re
from base64 import b64decode, b64encode

import pytest

from tasks.captions.sheet import html_sheet
from tests.tasks.captions.sheets import HOSTILE, card, hostile_sheet, jpeg, sheet
from tests.tasks.report.page import Element, read_page


def cards_of(page: Element) -> list[Element]:
    return page.all("article")


def shown(text: str) -> str:
    """A text as the page shows it: no control characters, and white space is one blank."""
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
    return " ".join(plain.split())


def test_a_card_tells_everything_of_a_tile() -> None:
    picture, photo = jpeg(), jpeg((160, 100))
    one = card(
        path="harbour/boat.jpg",
        context="a boat at dawn",
        origin="inherited",
        answer="I'm sorry",
        unusable="refusal",
        model="qwen2.5vl:3b",
        picture=picture,
        source="00ff",
        part=(0.25, 0.5, 0.5, 0.5),
    )
    page = read_page(html_sheet(sheet(one, thumbnails={"00ff": photo})))
    (article,) = cards_of(page)
    told = article.text()
    for text in ("a boat", "inherited", "detail ×2", "refusal: I'm sorry", "harbour/boat.jpg"):
        assert text in told
    assert "a boat at dawn" in told and "qwen2.5vl:3b" in told
    (image,) = article.all("img")
    assert b64decode(image.attributes["src"].removeprefix("data:image/jpeg;base64,")) == picture
    (use,) = article.all("use")
    (stored,) = page.all("image", id=use.attributes["href"].removeprefix("#"))
    assert b64decode(stored.attributes["href"].removeprefix("data:image/jpeg;base64,")) == photo
    (rect,) = article.all("rect")
    assert rect.attributes == {"x": "40.0", "y": "50.0", "width": "80.0", "height": "50.0"}


def test_a_photo_is_in_the_page_once() -> None:
    cards = [card(source="00ff", part=(0, 0, n / 8, 1)) for n in range(1, 6)]
    page = html_sheet(sheet(*cards, card(source="aa"), thumbnails={"00ff": jpeg(), "bb": jpeg()}))
    assert page.count("data:image/jpeg") == 2
    assert len(read_page(page).all("use")) == 5


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"prompts": ("one", "two")}, "onetwo"),
        ({"prompts": tuple(map(str, range(11)))}, "67and 3 more"),
        ({"prompts": ("",)}, "the empty prompt"),
        ({"prompts": (), "origin": "to come"}, "no caption yet"),
        ({"failure": "timeout after 5 tries: no answer"}, "failed: timeout after 5 tries"),
        ({"unusable": "empty"}, "empty: nothing was said"),
        ({"picture": None}, "the photo is gone or has changed"),
    ],
)
def test_what_is_missing_is_told(facts: dict[str, object], told: str) -> None:
    (article,) = cards_of(read_page(html_sheet(sheet(card(**facts)))))
    assert told in article.text()


def test_numbers_are_those_of_all_tiles() -> None:
    page = read_page(
        html_sheet(
            sheet(
                card(),
                total=2500,
                origins={"inherited": 20, "to come": 9, "generated": 2460, "edited": 11},
                unusable={"refusal": 12, "empty": 8},
                failures={"timeout": 3},
            )
        )
    )
    numbers = [one.text() for one in page.all("div", class_="number")]
    assert numbers == [
        "2,500captioned, or chosen for it",
        "2,460generated",
        "11edited",
        "9to come",
        "20inherited",
    ]
    bad = [one.text() for one in page.all("div", class_="number bad")]
    assert bad == [
        "20answers that are no caption: 12 refusal, 8 empty",
        "3failed when asked last: 3 timeout",
    ]
    (note,) = page.all("p", class_="note")
    assert note.text().startswith("1 of 2,500 are shown, evenly spread over the photos. The table")


def test_cards_can_be_filtered_by_all_that_they_are() -> None:
    cards = [
        card(),
        card(origin="inherited", unusable="refusal"),
        card(origin="to come", failure="timeout after 2 tries: x"),
        card(origin="edited"),
        card(),
    ]
    page = read_page(html_sheet(sheet(*cards)))
    (choice,) = page.all("select", id="mark")
    options = [(one.attributes["value"], one.text()) for one in choice.all("option")]
    names = ["generated (2)", "edited (1)", "to come (1)", "inherited (1)", "failed: timeout (1)"]
    names.append("no caption: refusal (1)")
    assert options == [("", "all (5)"), *((str(n), name) for n, name in enumerate(names))]
    marks = [one.attributes["data-marks"] for one in cards_of(page)]
    assert marks == ["0", "3 5", "2 4", "1", "0"]


def test_an_empty_sheet_says_so() -> None:
    page = read_page(html_sheet(sheet()))
    assert cards_of(page) == []
    assert "No tile has a caption yet" in page.text()


def test_nothing_but_the_page_itself_is_markup() -> None:
    text = html_sheet(hostile_sheet())
    page = read_page(text)  # every tag is closed where it should be
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert len(page.all("img")) == len(HOSTILE)
    harmless = {"class", "id", "data-marks", "href", "src", "alt", "content", "value", "type"}
    allowed = harmless | {"aria-label", "aria-live", "aria-hidden", "role", "charset", "name"}
    allowed |= {"http-equiv", "lang", "placeholder", "autocomplete", "spellcheck", "hidden"}
    allowed |= {"viewBox", "viewbox", "x", "y", "width", "height", "decoding"}
    for element in page.all("body")[0].all_of_any_tag():
        assert element.attributes.keys() <= allowed, element.attributes
    for name in ("src", "href"):
        for element in page.all_of_any_tag():
            address = element.attributes.get(name, "#")
            assert address.startswith(("#s-", "data:image/jpeg;base64,")) or address == "#"
    for article, hostile in zip(cards_of(page), HOSTILE, strict=False):
        assert article.all("p", class_="caption")[0].text() == shown(hostile)
        assert article.all("bdi")[-1].text() == shown(hostile)
    assert "49" not in page.all("h1")[0].text()
    assert "\u202e" not in text and "\0" not in text


def test_the_policy_names_what_is_there_and_nothing_else() -> None:
    page = html_sheet(sheet(card()))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "style=" not in page and "http://" not in page and "https://" not in page
