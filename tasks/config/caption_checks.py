"""Checks of what a concept says about captions; values under a switch that is off are allowed."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from tasks.config.concepts import Concept
from tasks.config.family_checks import Report
from tasks.config.problems import Problem
from tasks.config.schema import Place, dotted


def caption_problems(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    """What is wrong with the caption settings of a concept that asks for captions."""
    crops = concept.image.detail_crops
    if not (crops.enable_captioning and crops.enabled) and not crops.caption_full_images:
        return
    from tasks.wording.template import CAPTION_NAMES, check_template

    tables: Place = (*place, "image", "detail_crops")
    switches = [dotted((*tables, name)) for name in ("enable_captioning", "caption_full_images")]
    try:
        check_template(crops.caption_user_prompt, CAPTION_NAMES)
    except ValueError as error:
        yield problem((*tables, "caption_user_prompt"), str(error), *switches)
    if not crops.caption_endpoint:
        message = 'must name a server, such as "http://localhost:11434"'
        yield problem((*tables, "caption_endpoint"), message, *switches)
    for number, endpoint in enumerate(crops.caption_endpoint):
        if wrong := _wrong_address(endpoint):
            where: Place = (*tables, "caption_endpoint")
            told = f"{endpoint!r} " if len(crops.caption_endpoint) > 1 else ""
            yield problem(where, f"{told}{wrong}", *switches)
        elif endpoint.rstrip("/") in map(str, crops.caption_endpoint[:number]):
            message = f"names {endpoint!r} twice; say with caption_parallel how much it can do"
            yield problem((*tables, "caption_endpoint"), message, *switches)
    if crops.caption_json_schema and (wrong := _wrong_schema(crops.caption_json_schema)):
        yield problem((*tables, "caption_json_schema"), wrong, *switches)


def _wrong_address(endpoint: str) -> str | None:
    """What is wrong with the address of a server, or None."""
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as error:
        return f"is no address of a server: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be the address of a server, such as http://localhost:11434"
    if parts.username or parts.password or parts.query:
        return (
            "must hold no credentials: put the key into the environment, TILEWRIGHT_CAPTION_API_KEY"
        )
    return None


def _wrong_schema(text: str) -> str | None:
    """What is wrong with the JSON schema of answers, or None."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        return f"must be JSON: {error}"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return 'must be the JSON schema of an object: {"type": "object", "properties": {...}}'
    if not isinstance(schema.get("properties"), dict) or not schema["properties"]:
        return 'must name what the caption is made of: "properties": {"caption": {...}}'
    required = schema.get("required", [])
    if not isinstance(required, list) or not set(map(str, required)) <= set(schema["properties"]):
        return 'must list, under "required", names of its properties'
    return None
