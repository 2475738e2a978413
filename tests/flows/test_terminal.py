import io
import threading

from rich.console import Console

from flows.terminal import plain_lines, show_progress
from tasks.progress import report


def test_plain_lines_come_every_two_seconds_and_at_the_end() -> None:
    lines: list[str] = []
    now = 0.0
    show = plain_lines(lines.append, clock=lambda: now)
    for done in range(1, 51):
        now = done / 8
        show("crops", done, 50, "images")
    assert lines == [
        "crops: 1/50 images",
        "crops: 17/50 images (8/s, 0:04 left)",
        "crops: 33/50 images (8/s, 0:02 left)",
        "crops: 49/50 images (8/s, 0:00 left)",
        "crops: 50/50 images (8/s)",
    ]


def test_stages_have_their_own_lines_and_the_last_is_told_once() -> None:
    lines: list[str] = []
    show = plain_lines(lines.append, clock=lambda: 0.0)
    for stage in ("scan", "crops", "scan", "crops"):
        show(stage, 3, 3, "items")
    assert lines == ["scan: 3/3 items", "crops: 3/3 items"]


def test_reports_of_many_threads_reach_a_file() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output)):
        threads = [threading.Thread(target=report, args=(f"s{n}", 5, 5)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(output.getvalue().splitlines()) == [f"s{n}: 5/5 items" for n in range(8)]


def test_a_terminal_gets_bars() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output, force_terminal=True, width=100)):
        report("latents", 3, 7, "samples")
    assert "latents" in output.getvalue()
    assert "3/7 samples" in output.getvalue()


def test_without_a_display_nothing_is_shown() -> None:
    report("scan", 1, 2)
