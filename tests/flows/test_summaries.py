"""What people read of a plan: estimates, epochs, exported tiles."""

import io
from typing import Any

import pytest
from rich.console import Console

from flows.epoch_summary import duration, epoch_lines, export_lines, size
from flows.summaries import captions_line, estimated, show_review, show_stages, stage_table

COUNTS = {"wanted": 9, "reused": 2, "computed": 7, "new": 7, "changed": 0, "removed": 0}
STAGE = COUNTS | {"rejected": 0, "exact": False, "reasons": {"new": 7}}
EPOCHS: dict[str, Any] = {
    "num_rows": 9,
    "num_epochs": 10,
    "num_steps": 45,
    "exact": True,
    "at_most": False,
    "batch_size": 2,
    "step_size": 1,
    "remainder": "drop",
    "epochs": [
        {"epoch": 0, "steps": 4, "entries": 9, "dropped": {"64x64": 1}, "repeated": {}},
        {"epoch": 1, "steps": 5, "entries": 10, "dropped": {}, "repeated": {}},
    ],
    "kinds": [
        {"kind": "full", "samples": 3, "share": 0.333, "enlarged": 0},
        {"kind": "detail", "samples": 6, "share": 0.667, "enlarged": 2},
    ],
    "unseen": [
        {"bucket": "64x64", "reason": "remainder", "rows": 2},
        {"bucket": "96x64", "reason": "off", "rows": 1},
    ],
}


def shown(stages: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=120).print(stage_table(stages))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_only_a_plan_has_estimates() -> None:
    head, line = shown({"latents": STAGE})
    assert "time" not in head
    assert line.endswith("at most: 7 new")
    known = {"seconds": 200.4, "bytes": 1_234_567, "from": "3 earlier runs"}
    head, line, unknown, nothing = shown(
        {
            "latents": STAGE | {"estimate": known},
            "text": STAGE | {"estimate": None},
            "scan": STAGE | {"computed": 0, "estimate": known},
        }
    )
    assert head.split()[-3:] == ["time", "size", "why"]
    assert "3 min 20 s  1.23 MB  at most: 7 new" in line
    assert unknown.split()[8:10] == ["?", "?"]
    assert "min" not in nothing


def test_captions_are_shown_once_there_are_any() -> None:
    none = STAGE | {"wanted": 0}
    assert len(shown({"captions": none})) == 1
    assert len(shown({"captions": none | {"rejected": 1}})) == 2
    assert len(shown({"captions": STAGE})) == 2


def test_captions_in_a_line() -> None:
    told = {"generated": 1200, "edited": 3, "unusable": {"unclear": 12}, "failed": {"time-out": 2}}
    assert captions_line(told) == (
        "captions    1,200 generated, 3 edited, 12 not usable (unclear), 2 failed (time-out)"
    )
    none = {"generated": 0, "edited": 1, "unusable": {}, "failed": {}}
    assert captions_line(none) == "captions    0 generated, 1 edited"


def test_a_review_says_what_waits_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    show_review({"review": {"pending": 1200, "page": "captions.html", "go_on": ["do this"]}})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "captions    captions.html",
        "1,200 new captions wait for you; nothing was encoded yet.",
        "  do this",
    ]
    show_review({})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("at_most", "told"), [(True, "at most 12 samples"), (False, "12 samples")])
def test_samples_of_a_plan_whose_tiles_may_be_blank_are_a_bound(
    capsys: pytest.CaptureFixture[str], at_most: bool, told: str
) -> None:
    """Without cached latents no stage of the plan may have anything that is uncertain."""
    dataset = {"name": "harbour", "version": None, "uri": None, "num_samples": 12}
    outlook = EPOCHS | {"at_most": at_most}
    show_stages({"stages": {}, "dataset": dataset, "outlook": outlook})
    assert f"dataset harbour (no version yet), {told}\n" in capsys.readouterr().err


def test_the_sum_says_what_is_not_known() -> None:
    assert estimated({"seconds": 75.0, "bytes": 2000, "unknown": ["text"]}) == (
        "estimated from earlier runs: 1 min 15 s, 2 kB, and what is not known yet: text"
    )
    assert estimated({"seconds": 0, "bytes": 0, "unknown": []}) == estimated(None) == ""


def test_epochs_in_a_few_lines() -> None:
    assert epoch_lines(EPOCHS) == [
        "epochs      10, of 4 to 5 steps each (batch 2), 45 in all",
        "trained on  full 33% (3 samples), detail 67% (6 samples, 2 enlarged)",
        "dropped     0.5 per epoch, incomplete batches and steps: 64x64 0.5",
        "never seen  1, repeats or samples_per_epoch are 0: 96x64 1",
        "never seen  2, in an incomplete batch each time (data.remainder): 64x64 2",
    ]
    planned = epoch_lines(EPOCHS | {"at_most": True, "num_epochs": None, "step_size": 4})
    assert planned[0] == "epochs      of 4 to 5 steps each (batch 2 x 4), about 45 in all"


@pytest.mark.parametrize("planned", [False, True])
def test_exported_tiles(planned: bool) -> None:
    facts = {"tiles": 24, "written": 20, "sidecars": 3, "edited": 1}
    lines = export_lines(facts | {"folders": ["a", "b"], "skipped": ["x.jpg"]}, planned=planned)
    verb = "to write" if planned else "written"
    assert lines == [
        f"tiles       24: {verb} 20 pictures and 3 texts; with a text of yours: 1; folder: a, b",
        "not cut     x.jpg: it changed meanwhile",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "< 1 s"),
        (12.4, "12 s"),
        (59.7, "1 min 00 s"),
        (75, "1 min 15 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_times(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("nbytes", "told"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (5e15, "5,000.0 TB")],
)
def test_sizes(nbytes: float, told: str) -> None:
    assert size(nbytes) == told
