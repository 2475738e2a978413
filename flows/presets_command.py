"""What `tilewright presets` lists: every preset by family, with its method and GPU memory."""

import re
from itertools import groupby
from operator import itemgetter
from typing import Any

from tasks.config import presets
from tasks.config.loading import preset_data

_MEMORY = re.compile(r"\b(\d+) GB\b")


def preset_rows() -> list[dict[str, Any]]:
    """Name, description, family, method, memory_gb (None: not said) and whether it is the user's.

    ConfigError when a preset of the user's cannot be read.
    """
    own = presets.names_in(presets.own_folder())
    rows = []
    for name in presets.names():
        data, description = preset_data(name), presets.description(name)
        memory = _MEMORY.search(description)
        method = data.get("train", {}).get("method", {})
        rows.append(
            {
                "name": name,
                "description": description,
                "family": data.get("model", {}).get("family"),
                "method": method.get("kind"),
                "memory_gb": int(memory[1]) if memory else None,
                "own": name in own,
            }
        )
    return sorted(rows, key=lambda row: (row["own"], row["family"] or "", row["name"]))


def preset_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The list for a person, family by family; the user's own come last."""
    width = max(len(row["name"]) for row in rows)
    lines = []
    for (own, family), members in groupby(rows, key=itemgetter("own", "family")):
        lines += ["", f"yours, for {family}" if own else str(family)]
        lines += [f"  {row['name']:<{width}}  {row['description']}" for row in members]
    return lines[1:]
