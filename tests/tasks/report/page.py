"""Reads a report back as a browser would: elements, attributes and text."""

import base64
import json
import re
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import accumulate
from typing import Any

VOID = {"meta", "br", "img", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    def text(self) -> str:
        parts = [child if isinstance(child, str) else child.text() for child in self.children]
        return " ".join("".join(parts).split())

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """Every descendant with this tag and these attribute values, in document order."""
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            wanted = {name.rstrip("_"): value for name, value in attributes.items()}
            if child.tag == tag and wanted.items() <= child.attributes.items():
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def all_of_any_tag(self) -> list["Element"]:
        """Every descendant, in document order."""
        children = [child for child in self.children if not isinstance(child, str)]
        return [one for child in children for one in (child, *child.all_of_any_tag())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(html: str) -> Element:
    """The document; fails when a tag is closed that is not the open one."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert [element.tag for element in reader.open] == [""]
    return reader.root


def unpack(html: str) -> list[dict[str, Any]]:
    """What the page carries of its sources, put together as its script does."""
    blocks = dict(
        re.findall(r'<script type="application/octet-stream" id="([^"]+)">([^<]*)<', html)
    )
    facts = _value(blocks["facts"])
    size = facts["partSources"]
    parts = [_value(blocks[name]) for name in blocks if name.startswith("grids-")]
    prompts: dict[int, list[Any]] = {}
    for source, code, kind, origin, samples in zip(*facts["uses"].values(), strict=True):
        use = (facts["sets"][code], facts["kinds"][kind], origin, samples)
        prompts.setdefault(source, []).append(use)
    sources = []
    for number, path in enumerate(facts["path"]):
        part, at = parts[number // size], number % size
        pictures = blocks[f"pictures-{number // size}"].split(" ")
        sources.append(
            {
                "path": path,
                "concept": facts["concepts"][facts["concept"][number]],
                **{name: facts[name][number] for name in ("width", "height", "marks", "samples")},
                **{name: facts[name][number] for name in ("kept", "dropped", "hidden")},
                "notes": facts["notes"].get(str(number), []),
                "without": facts["without"].get(str(number), []),
                "prompts": prompts.get(number, []),
                "picture": base64.b64decode(pictures[at]),
                "grids": None if part is None else _grids(part, at, facts),
            }
        )
    return sources


def _value(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text))) if text else None


def _grids(part: dict[str, Any], at: int, facts: dict[str, Any]) -> list[dict[str, Any]]:
    firsts = part.setdefault("firsts", [0, *accumulate(part["variations"])])
    return [
        {
            "kind": facts["kinds"][part["kind"][grid]],
            "scale": facts["scales"][part["scale"][grid]],
            "phase": part["phase"][grid],
            "canvas": (part["canvas_width"][grid], part["canvas_height"][grid]),
            "size": (part["width"][grid], part["height"][grid]),
            "tiles": [
                {
                    "place": (part["left"][tile], part["top"][tile]),
                    "reason": _named(part["reasons"], part["reason"][tile]),
                    "std": part["std"][tile] / 10_000,
                    "edge": part["edge"][tile] / 10_000,
                    "own": _named(facts["sets"], part["prompts"][tile]),
                    "variations": part["variations"][tile],
                    "values": [
                        _named(part["texts"], value)
                        for value in part.get("values", [])[firsts[tile] : firsts[tile + 1]]
                    ],
                }
                for tile in range(part["tiles"][grid], part["tiles"][grid + 1])
            ],
        }
        for grid in range(part["grids"][at], part["grids"][at + 1])
    ]


def _named(names: list[Any], place: int) -> Any:
    return None if place < 0 else names[place]
