"""List the image files of a folder tree: names only, in an order that no locale and no file system changes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from pretext.datasets.images import EXTENSIONS

# control characters, line separators, marks that reorder text on a terminal, the escape sign itself, and the
# stand-ins (surrogates) for bytes that are not UTF-8; a closed list, as Unicode's own classes grow between Pythons
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(slots=True)
class Listing:
    """What a folder holds.

    Args:
        images: Names of image files and of links to folders at any depth, "/" between parts, sorted.
        num_ignored: How many other entries there are: other files, hidden entries, what is no file at all.
    """

    images: list[str] = field(default_factory=list)
    num_ignored: int = 0


@dataclass(slots=True)
class Entries:
    """One level of a folder: sorted sub-folders, image files (links counted as files), and the number of the rest."""

    folders: list[str]
    images: list[str]
    linked_folders: list[str]
    num_ignored: int


def list_level(folder: str) -> Entries:
    """Sort one folder's entries by kind.

    Hidden entries and `__MACOSX` are ignored. A link to a folder is never followed; a dangling link with the name of
    an image counts as an image, so that it is told and not lost.

    Raises:
        OSError: If the folder can't be listed.
    """
    level = Entries([], [], [], 0)
    with os.scandir(folder) as entries:
        for entry in entries:
            is_image = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                level.num_ignored += 1
            elif entry.is_dir(follow_symlinks=False):
                level.folders.append(entry.name)
            elif entry.is_symlink() and os.path.isdir(entry.path):  # is_dir() raises on a link to itself
                level.linked_folders.append(entry.name)
            elif is_image and (entry.is_symlink() or entry.is_file()):
                level.images.append(entry.name)
            else:
                level.num_ignored += 1
    for names in (level.folders, level.images, level.linked_folders):
        names.sort()
    return level


def list_tree(folder: str) -> Listing:
    """List the images of a folder and of all folders below it.

    Cost: one `scandir` per folder; memory for the names alone.

    Raises:
        OSError: If a folder can't be listed.
    """
    listing = Listing()
    pending = [""]
    while pending:
        prefix = pending.pop()
        level = list_level(os.path.join(folder, prefix))
        listing.images.extend(prefix + name for name in level.images)
        listing.images.extend(prefix + name for name in level.linked_folders)
        listing.num_ignored += level.num_ignored
        pending.extend(f"{prefix}{name}/" for name in level.folders)
    listing.images.sort()
    return listing


def escape_name(name: str) -> str:
    r"""Return a file name as text that is safe to print and to store as UTF-8; no two names become the same.

    A control character becomes \x0a or \u2028, a byte that is not UTF-8 \udcff, a backslash two.
    """
    return _UNSAFE.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
