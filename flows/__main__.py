"""The `tilewright` command. Imports nothing heavy: no torch, and Prefect only to run a flow."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import (
    captions_command,
    convert_command,
    gc_command,
    lineage_command,
    preconditions,
    report_command,
    serve_command,
    summaries,
    tensorboard_command,
)
from flows.command_options import (
    AsJson,
    ConfigFile,
    Dataset,
    NewData,
    Resume,
    Settings,
    Size,
    StopAfterSteps,
    Verbose,
)
from flows.command_outcome import DONE, finish, say, stderr
from flows.local_server import ensure_server, stop_server, users
from flows.presets_command import preset_lines, preset_rows
from flows.review_gate import settled
from flows.run_log import command_log, quiet_prefect
from flows.terminal import show_progress
from tasks.config.loading import resolved_preset

app = typer.Typer(
    name="tilewright",
    help="Folders of very large photos in, a fine-tuned diffusion model out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(captions_command.app, name="captions")
app.command()(convert_command.convert)
app.command()(gc_command.gc)
app.command()(serve_command.serve)
app.command()(lineage_command.lineage)
app.command()(tensorboard_command.tensorboard)


@app.command()
def run(
    config: ConfigFile, settings: Settings = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Prepare the dataset, train on it and draw samples."""

    def work(log: Path) -> dict[str, Any]:
        checked = preconditions.usable_config(config, settings, create_store=True, download=True)
        preconditions.require_captioner(checked)
        preconditions.require_trainable(checked)

        def flow(settings: Sequence[str]) -> dict[str, Any]:
            return _run_flow("run_pipeline", log, verbose, **_filled(config, settings))

        return settled("run", config, settings or (), flow, ask=not as_json)

    finish("run", work, summaries.show_training, as_json=as_json)


@app.command()
def plan(config: ConfigFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say what `prepare` would do and why; starts nothing."""

    def work(log: Path) -> dict[str, Any]:
        checked = preconditions.usable_config(config, settings, create_store=False, download=False)
        from tasks.pipeline.plan import plan_pipeline  # only now: a bad config is told at once

        with show_progress(stderr):
            return plan_pipeline(checked)

    finish("plan", work, summaries.show_prepared, as_json=as_json)


@app.command()
def prepare(
    config: ConfigFile, settings: Settings = None, as_json: AsJson = False, verbose: Verbose = False
) -> None:
    """Run the data stages and make a dataset version (none if nothing changed)."""

    def work(log: Path) -> dict[str, Any]:
        checked = preconditions.usable_config(config, settings, create_store=True, download=True)
        preconditions.require_captioner(checked)

        def flow(settings: Sequence[str]) -> dict[str, Any]:
            return _run_flow("prepare_dataset", log, verbose, **_filled(config, settings))

        return settled("prepare", config, settings or (), flow, ask=not as_json)

    finish("prepare", work, summaries.show_prepared, as_json=as_json)


@app.command()
def train(
    config: ConfigFile,
    *,
    settings: Settings = None,
    dataset: Dataset = None,
    resume: Resume = None,
    new_data: NewData = False,
    stop_after_steps: StopAfterSteps = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train on a prepared dataset version."""

    def work(log: Path) -> dict[str, Any]:
        checked = preconditions.usable_config(
            config, settings, create_store=False, download=True, images=False
        )
        version = preconditions.require_dataset(checked, dataset)
        preconditions.require_trainable(checked)
        preconditions.require_run(checked, version, resume, new_data)
        chosen = {"dataset": dataset or "", "resume": resume or "", "new_data": new_data}
        chosen |= {"stop_after_steps": stop_after_steps}
        return _run_flow("train_model", log, verbose, **_filled(config, settings), **chosen)

    finish("train", work, summaries.show_training, as_json=as_json)


@app.command()
def sample(
    run_or_model: Annotated[str, typer.Argument(help="A run's folder, a model or a LoRA file.")],
    *,
    prompt: Annotated[list[str], typer.Option(help="One image per prompt; may be repeated.")],
    base: Annotated[str | None, typer.Option(help="The base model of a LoRA file.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder for the images.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What images should not show.")] = "",
    seed: Annotated[int, typer.Option(help="Of the first image; the next adds one.")] = 42,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance.")] = 7.0,
    width: Size = None,
    height: Size = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Draw images with a trained model."""
    settings = {"negative_prompt": negative_prompt, "seed": seed, "steps": steps}
    settings |= {"guidance": guidance, "width": width, "height": height}

    def work(log: Path) -> dict[str, Any]:
        preconditions.require_model(run_or_model, base)
        words = {"run_or_model": run_or_model, "prompts": "\n".join(prompt)}
        words |= {"base": base or "", "output": output or ""}
        return _run_flow("draw_samples", log, verbose, **words, **settings)

    finish("sample", work, summaries.show_images, as_json=as_json)


@app.command("presets")
def list_presets(
    name: Annotated[str | None, typer.Argument(help="Print this one, resolved.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the presets, or print one with all its settings as TOML."""

    def work(log: Path) -> dict[str, Any]:
        if name is not None:
            return {"name": name, "toml": resolved_preset(name)}
        return {"presets": preset_rows()}

    def show(result: dict[str, Any]) -> None:
        for line in preset_lines(result["presets"]) if "presets" in result else ():
            typer.echo(line)
        typer.echo(result.get("toml", ""), nl=False)

    finish("presets", work, show, as_json=as_json)


@app.command()
def show(
    config_or_store: Annotated[str, typer.Argument(help="A TOML file or the place of a store.")],
    dataset: Dataset = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object per sample.")] = False,
) -> None:
    """Show every sample of a dataset version: its prompt and where that came from."""

    def work(log: Path) -> dict[str, Any]:
        from flows import dataset_rows

        store, version = dataset_rows.find_version(config_or_store, dataset)
        for row in dataset_rows.sample_rows(store, version, by_photo=not jsonl):
            told = json.dumps(dataset_rows.as_json(row), ensure_ascii=False)
            sys.stdout.write((told if jsonl else dataset_rows.as_line(row)) + "\n")
        sys.stdout.flush()
        facts = {"name": version.name, "version": version.number, "uri": version.uri}
        return {**facts, "num_samples": version.num_samples}

    finish("show", work, summaries.show_dataset, as_json=False)


app.command()(report_command.report)


@app.command("import-onetrainer")
def import_onetrainer(
    source: Annotated[
        str, typer.Argument(metavar="JSON", help="OneTrainer's config, preset or concepts file.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="TOML", help="The file to write.")
    ] = "run.toml",
    root: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Where its relative paths start. Default: OneTrainer's folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a run.toml of a OneTrainer file, with a list of what it could not hold."""
    from flows import onetrainer_import

    def work(log: Path) -> dict[str, Any]:
        return onetrainer_import.import_onetrainer(source, output, root)

    finish("import-onetrainer", work, onetrainer_import.show_import, as_json=as_json)


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop Tilewright's own Prefect server now."""

    def work(log: Path) -> dict[str, Any]:
        if busy := users():
            say(f"it was in use by the processes {', '.join(map(str, busy))}")
        return {"stopped": stop_server()}

    def show(result: dict[str, Any]) -> None:
        say("the server is stopped" if result["stopped"] else "no server of ours was running")

    finish("down", work, show, as_json=as_json)


def _run_flow(module: str, log: Path, verbose: bool, **parameters: Any) -> dict[str, Any]:
    """Runs the flow of a module on the right server, with progress and a log.

    `prefect` is imported here, after the environment that it reads was set.
    """
    quiet_prefect(verbose=verbose)
    url = ensure_server(say)
    say(f"Prefect UI: {url.removesuffix('/api')}/runs")
    flow = getattr(importlib.import_module(f"flows.{module}"), module)
    with command_log(log, stderr, verbose=verbose), show_progress(stderr):
        summary: dict[str, Any] = flow(**parameters)
    return summary


def _filled(config: str, settings: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a flow's form that a command fills in; `--set` options are lines there."""
    return {"config_file": config, "overrides": "\n".join(settings or ())}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"tilewright {version('tilewright')}")
        except PackageNotFoundError:
            typer.echo("tilewright (run from its source folder, not installed)")
        raise typer.Exit(DONE)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="tilewright")


if __name__ == "__main__":
    main()
