"""Options as fields of frozen dataclasses: defaults and help written once, merged from study file and flags, checked in one go."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pretext.errors import ConfigError

ConfigType = TypeVar("ConfigType")
MAX_SHOWN = 500  # characters of a wrong value in a message
LARGEST_INT = 2**63 - 1  # what the libraries below take


def option(
    default: Any,
    help: str,
    *,
    panel: str,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
    identity: bool = True,
    positional: bool = False,
    required: bool = False,
    flag: str | None = None,
    only_with: tuple[str, Any] | None = None,
) -> Any:
    """Declare a field that is an option of a stage.

    Args:
        default: Used when neither study file nor flag gives it.
        help: What it does, with its unit.
        panel: The group it stands under in `--help`.
        minimum: Least value allowed.
        maximum: Greatest value allowed.
        above: The value must be greater than this.
        choices: The words allowed.
        identity: False for what does not change the output (places, progress, workers): left out of fingerprints.
        positional: True for an argument without a flag.
        required: True if there is no default.
        flag: The flag's spelling where it is not the field's name.
        only_with: Another field and the value it must have for this one to be read; "given" means any.
    """
    metadata = dict(
        help=help, panel=panel, minimum=minimum, maximum=maximum, above=above, choices=choices,
        identity=identity, positional=positional, required=required, flag=flag, only_with=only_with,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def flag_name(field: dataclasses.Field[Any]) -> str:
    """The option as the user types it: `--latent-dim`, or the bare word of an argument."""
    if field.metadata["positional"]:
        return field.name.upper()
    return field.metadata["flag"] or "--" + field.name.replace("_", "-")


def read_study(path: Path, section: str, known_sections: tuple[str, ...]) -> dict[str, Any]:
    """Read one stage's table from a TOML study file; keys may be written with - or _.

    Raises:
        ConfigError: If the file can't be read, is not TOML, or has a table for no stage.
    """
    try:
        with path.open("rb") as file:
            study = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"study file {path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise ConfigError(f"study file {path} is not valid TOML: {_cut(str(error))}") from error
    unknown = [name for name in study if name not in known_sections]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known_sections, n=1)
        guess = f"; did you mean [{near[0]}]?" if near else f"; tables are {', '.join(known_sections)}"
        raise ConfigError(f"study file {path} has an unknown table [{_cut(unknown[0])}]{guess}")
    table = study.get(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"study file {path}: '{section}' must be a table, got {_shown(table)}")
    values = {key.replace("-", "_"): value for key, value in table.items()}
    if twice := sorted(key for key in table if "-" in key and key.replace("-", "_") in table):
        raise ConfigError(
            f"study file {path}: table [{section}] gives '{_cut(twice[0])}' twice, once with - and once with _"
        )
    return values


def resolve(
    config_class: type[ConfigType], given: Mapping[str, Any], study: Mapping[str, Any] | None = None
) -> tuple[ConfigType, frozenset[str]]:
    """Merge defaults < study file < flags into a checked config, and say which fields were given.

    Raises:
        ConfigError: With one line for every problem found, not only the first.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(config_class)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in (study or {}).items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            problems.append(f"unknown key '{_cut(name)}'{guess}")
        else:
            values[name] = value
    values |= {name: value for name, value in given.items() if value is not None}
    checked = {}
    for name, value in values.items():
        field = fields[name]
        try:
            checked[name] = _coerce(hints[name], value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: ~name of no user
            problems.append(f"{flag_name(field)} must be {_describe(hints[name])}, got {_shown(value)}")
            continue
        problems += _range_problems(field, checked[name])
    problems += [f"{flag_name(field)} is missing" for name, field in fields.items()
                 if field.metadata["required"] and name not in values]  # fmt: skip
    if problems:
        raise ConfigError(problems)
    config, explicit = config_class(**checked), frozenset(checked)
    if unread := _unread_problems(config, fields, explicit):
        raise ConfigError(unread)
    return config, explicit


def _unread_problems(config: Any, fields: Mapping[str, dataclasses.Field[Any]], explicit: frozenset[str]) -> list[str]:
    """One line for every given option that the other options leave unread."""
    lines = []
    for name in sorted(explicit):
        if (needs := fields[name].metadata["only_with"]) is None:
            continue
        other, wanted = needs
        value = getattr(config, other)
        if value is None if wanted == "given" else value != wanted:
            flag = flag_name(fields[other])
            how = {"given": flag, True: flag, False: f"without {flag}"}.get(wanted, f"{flag} {wanted}")
            lines.append(f"{flag_name(fields[name])} is read only {how if wanted is False else f'with {how}'}")
    return lines


def identity(config: Any) -> dict[str, Any]:
    """The part of a config that decides what comes out, as plain JSON values."""
    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)
            if field.metadata["identity"]}  # fmt: skip


def plain(value: Any) -> Any:
    """A config value as JSON knows it: paths become text, tuples lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _coerce(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _coerce(inner[0], value)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            items = [items]
        return tuple(_coerce(arguments[0], item.strip() if isinstance(item, str) else item) for item in items)
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise TypeError
    if isinstance(value, bool):
        raise TypeError
    if hint is int:
        if isinstance(value, float) and not value.is_integer():
            raise TypeError
        return int(value)
    if hint is float:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    if hint is Path:
        if "\0" in str(value):  # no file can have such a name
            raise ValueError
        return Path(value).expanduser()
    if hint is str and isinstance(value, str):
        return value
    raise TypeError


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _describe(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return f"a list such as 1,2,4, each {_describe(arguments[0])}"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", Path: "a path"}
    return names[hint]


def _shown(value: Any) -> str:
    """A value in a message, whatever a study file gave."""
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):
        return "a value that is too long to show"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _range_problems(field: dataclasses.Field[Any], value: Any) -> list[str]:
    facts, name = field.metadata, flag_name(field)
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        if facts["choices"] and item not in facts["choices"]:
            near = difflib.get_close_matches(str(item), facts["choices"], n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            return [f"{name} must be one of {', '.join(facts['choices'])}, got '{_cut(str(item))}'{guess}"]
        if facts["minimum"] is not None and item < facts["minimum"]:
            return [f"{name} must be at least {facts['minimum']}, got {_shown(item)}"]
        if facts["maximum"] is not None and item > facts["maximum"]:
            return [f"{name} must be at most {facts['maximum']}, got {_shown(item)}"]
        if facts["above"] is not None and item <= facts["above"]:
            return [f"{name} must be greater than {facts['above']}, got {_shown(item)}"]
        if isinstance(item, int) and abs(item) > LARGEST_INT:
            return [f"{name} must be at most {LARGEST_INT}, got {_shown(item)}"]
    return []
