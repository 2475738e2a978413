"""`tilewright convert`: a finished model, adapter or word in another layout or data type."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_options import AsJson
from flows.command_outcome import finish, refuse, say
from tasks.families.output_formats import FORMAT_METHODS

DTYPES = ("float32", "bfloat16", "float16")


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file or a diffusers folder.")],
    output: Annotated[str, typer.Argument(metavar="OUT", help="What to write; must not exist.")],
    *,
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"{', '.join(FORMAT_METHODS)}.")],
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model that an adapter or file is for.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(metavar="F", help="Its family, where --base does not tell.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="D", help=f"{', '.join(DTYPES)}. Default: as it is.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model, LoRA or embedding in another format or data type."""

    def work(log: Path) -> dict[str, Any]:
        for option, value, choices in (("--to", to, FORMAT_METHODS), ("--dtype", dtype, DTYPES)):
            if value is not None and value not in choices:
                refuse(option, f"must be one of {', '.join(choices)}", value)
        return convert_file(source, output, to, base=base, family=family, dtype=dtype)

    finish("convert", work, show_conversion, as_json=as_json)


def convert_file(
    source: str, output: str, to: str, *, base: str | None, family: str | None, dtype: str | None
) -> dict[str, Any]:
    """Converts and gives path, from, to and dtype; ConfigError for what cannot be done."""
    from tasks.convert.convert import Wish, convert

    path, target = Path(source).expanduser(), Path(output).expanduser()
    if target.exists() or target.is_symlink():
        refuse("OUT", "is there already and is never overwritten; name another", output)
    if (to != "diffusers") != (target.suffix == ".safetensors"):
        wanted = "be a folder without suffix" if to == "diffusers" else "end with .safetensors"
        refuse("OUT", f"must {wanted} for --to {to}", output)
    wish = Wish(path=path, destination=target, to=to, base=base, family=family, dtype=dtype)
    try:
        return dict(convert(wish))
    except (ValueError, FileExistsError) as error:
        refuse("IN", str(error), source)


def show_conversion(summary: dict[str, Any]) -> None:
    """The summary of a conversion, for people."""
    say(f"{summary['path']}: {summary['to']}, {summary['dtype']}, made of {summary['from']}")
