"""--config: a YAML file whose keys are the options of a command."""

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def job_file(command: F) -> F:
    """--config: what the command line does not say is taken from the file."""
    text = "YAML file whose keys are these options, and DATA; the command line wins."
    kind = click.Path(dir_okay=False)
    return click.option("--config", type=kind, is_eager=True, expose_value=False, callback=read, help=text)(command)


def read(ctx: click.Context, option: click.Parameter, path: str | None) -> None:
    """Makes the file's values the defaults of the command, each checked as on the command line.

    Raises
    ------
    click.UsageError
        For text that is no mapping of options, unknown or repeated keys, and values that an option does not take.
    FileNotFoundError
        If there is no such file.
    """
    if path is None:
        return
    known = parameters(ctx.command, but=option)
    found: dict[str, Any] = {}
    for where, key, value in entries(path):
        parameter = known.get(key.replace("_", "-"))
        if parameter is None or parameter.name is None:
            near = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}."
            raise click.UsageError(f"{where}: unknown key {key}; {hint}", ctx)
        if parameter.name in found:
            raise click.UsageError(f"{where}: {key} was set before in this file. Keep one of the two.", ctx)
        found[parameter.name] = checked(ctx, parameter, value, f"{where}: {key}")
    ctx.default_map = {name: value for name, value in found.items() if value is not None}


def parameters(command: click.Command, but: click.Parameter) -> dict[str, click.Parameter]:
    """What may be a key: options by their names without dashes, long and short, and arguments by theirs."""
    settable = [found for found in command.params if found is not but]
    return {name.lstrip("-").replace("_", "-"): found for found in settable for name in found.opts}


def checked(ctx: click.Context, parameter: click.Parameter, value: str | list[str] | None, where: str) -> Any:
    """The value in the form that click takes as a default, once the option has shown that it takes it."""
    if value is None:
        return None
    several = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    if several:
        value = [value] if isinstance(value, str) else value
    elif isinstance(value, list):
        value = ",".join(value)
    try:
        parameter.type_cast_value(ctx, value)
    except click.BadParameter as error:
        raise click.UsageError(f"{where}: {error.message}", ctx) from error
    return value


def entries(path: str) -> Iterator[tuple[str, str, str | list[str] | None]]:
    """Where each key stands, the key, and its value: text as written, a list of it, or None for nothing.

    Nothing is made of the text but nodes: no tag is acted upon, and what looks like a date or a number stays text.
    """
    import yaml

    try:
        document = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such job file. Check the path; relative ones start from here.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"{path}: not YAML: {error}") from error
    if document is None:
        return
    if not isinstance(document, yaml.MappingNode):
        raise click.UsageError(f"{path}: expected lines such as `components: 16`, found no keys with values.")
    for key, node in document.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise click.UsageError(f"{where}: expected the name of an option before the colon.")
        yield where, key.value, plain(node, f"{where}: {key.value}")


def plain(node: Any, where: str) -> str | list[str] | None:
    """The text of a node, or the texts of a list; None for null."""
    if isinstance(node.value, str):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if node.tag == "tag:yaml.org,2002:seq" and all(isinstance(item.value, str) for item in node.value):
        return [item.value for item in node.value]
    raise click.UsageError(f"{where}: expected a value, or a list of values; options do not nest.")
