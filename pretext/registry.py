"""Named variants with lazy targets: listing them imports none of them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pretext.errors import UnknownVariantError


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of the catalogue.

    Args:
        name: What the user types.
        target: "module:attribute" of the builder; imported on `load`, not before.
        summary: One line for `pretext list`.
        paper: Where it comes from.
        reads: The options it reads and their defaults. An option that no chosen variant reads is an error.
        fixed: Arguments of the builder that this row pins (a named preset).
        fits: The only values that other options may have beside this row; an option that is not named may have any.
        trains: False for controls that leave the weights at their initialisation.
        tiny: Options under which the conformance tests build it.
    """

    name: str
    target: str
    summary: str
    paper: str = ""
    reads: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    fits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trains: bool = True
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the target now and return it."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options this row reads: the given value where there is one, else the row's default."""
        return {name: default if given.get(name) is None else given[name] for name, default in self.reads.items()}


class Registry(Mapping[str, Variant]):
    """A read-only, ordered table of the variants of one axis.

    Raises:
        ValueError: If two rows have one name.
        UnknownVariantError: On look-up of a name that no row has; names the nearest one and the list command.
    """

    def __init__(self, axis: str, *variants: Variant) -> None:
        self.axis = axis
        self._rows = {variant.name: variant for variant in variants}
        if len(self._rows) != len(variants):
            raise ValueError(f"two rows of axis {axis} have the same name")

    def __getitem__(self, name: str) -> Variant:
        try:
            return self._rows[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._rows, n=1)
            guess = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(self._rows)}."
            raise UnknownVariantError(
                f"{self.axis} '{name}' is unknown; {guess}", hint=f"pretext list {self.axis} shows them all"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def readers_of(self, option: str) -> list[str]:
        """The names of the rows that read `option`."""
        return [name for name, row in self._rows.items() if option in row.reads]
