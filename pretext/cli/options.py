"""Commands made from the stages' configs, so that a flag, its default and its help are written once: in the field."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pretext.config import flag_name, read_study, resolve
from pretext.stage_configs import MACHINE, OUTPUT
from pretext.variants import CHOOSERS, default_text

# Options of every stage command that are not a stage's business.
SHARED = {
    "study": (Path | None, "--study", "TOML file with a table for each stage; flags win over it.", OUTPUT),
    "as_json": (bool, "--json", "Print the result as JSON.", OUTPUT),
    "quiet": (bool, "--quiet", "No progress, and only the output's path as result.", OUTPUT),
    "debug": (bool, "--debug", "Show the traceback of an error.", MACHINE),
}


def stage_command(
    name: str, config_class: type[Any], run: Callable[..., None], sections: tuple[str, ...]
) -> Callable[..., None]:
    """Make a typer command whose options are the fields of `config_class`.

    Args:
        name: The command, and the stage's table in a study file.
        config_class: The stage's config.
        run: Called with (config, explicit options, shared options).
        sections: Every table a study file may have.
    """

    def command(**given: Any) -> None:
        shared = {key: given.pop(key) for key in SHARED}
        study = read_study(shared["study"], name, sections) if shared["study"] else None
        config, explicit = resolve(config_class, {k: _given(v) for k, v in given.items()}, study)
        run(config, explicit, shared)

    # A config's own options stand before those it shares with other stages.
    own = config_class.__annotations__
    fields = sorted(dataclasses.fields(config_class), key=lambda field: field.name not in own)
    parameters = [_parameter(field, config_class) for field in fields]
    parameters += [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None if kind is not bool else False,
                                     annotation=Annotated[kind, typer.Option(flag, help=text, rich_help_panel=panel)])
                   for key, (kind, flag, text, panel) in SHARED.items()]  # fmt: skip
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _given(value: Any) -> Any:
    """An option that was not given is None; a repeated argument that was not given is an empty list."""
    return tuple(value) if isinstance(value, list) and value else (None if isinstance(value, list) else value)


def _parameter(field: dataclasses.Field[Any], config_class: type[Any]) -> inspect.Parameter:
    facts = field.metadata
    hint = _cli_type(typing.get_type_hints(config_class)[field.name], repeated=facts["positional"])
    text = facts["help"] + (f" One of: {', '.join(facts['choices'])}." if facts["choices"] else "")
    if shown := _shown_default(field, config_class):
        text += f" [default: {shown}]"
    common: dict[str, Any] = {"help": escape(text), "show_default": False}
    # Required or not, an absent argument is left to `resolve`, so that a study file may give it.
    info: Any = (
        typer.Argument(metavar=field.name.upper(), **common)
        if facts["positional"]
        else typer.Option(flag_name(field), rich_help_panel=facts["panel"], metavar=_metavar(hint), **common)
    )
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[hint, info])


def _cli_type(hint: Any, *, repeated: bool) -> Any:
    """The type typer parses: every option may be absent; lists are one word with commas, or repeated arguments."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if typing.get_origin(hint) is tuple:
        return list[typing.get_args(hint)[0]] | None if repeated else str | None  # type: ignore[misc]
    return hint | None


def _metavar(hint: Any) -> str | None:
    inner = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    return None if inner is bool else {int: "INT", float: "FLOAT", Path: "PATH"}.get(inner, "TEXT")


def _shown_default(field: dataclasses.Field[Any], config_class: type[Any]) -> str | None:
    """The default as `--help` shows it; None where there is none or the help says it in words."""
    if field.default is None:
        options = [f.name for f in dataclasses.fields(config_class) if f.name in CHOOSERS]
        return default_text(field.name, options)
    if field.default is False:
        return None
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
