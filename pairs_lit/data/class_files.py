"""The image files of class folders: each file counts once, whatever links lead to it."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairs_lit.data.image_reader import readable_endings
from pairs_lit.errors import PairsLitError

_HIDDEN = (".", "__")  # .ipynb_checkpoints, __MACOSX, __pycache__
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


@dataclass
class ClassFiles:
    """What the folder of one class holds.

    Attributes:
        images: The image files, in the order of their folders and names.
        skipped: How many other files there are, by ending.
        folders: The names of the folders in it.
        nested: How many image files lie in these.
        links: How many links lead to what counts already, and were left out.
    """

    images: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    nested: int = 0
    links: int = 0


@dataclass(frozen=True)
class _File:
    """An image file: of which class, where, and whether a link leads to it."""

    name: str
    path: Path
    is_link: bool

    @property
    def rank(self) -> tuple[bool, str, str]:
        """Its place among the names of one file: a link comes last."""
        return self.is_link, str(self.path.parent), self.path.name


def is_hidden(name: str) -> bool:
    """Return whether systems leave a file or folder of this name behind."""
    return name.startswith(_HIDDEN) or name.lower() in _OF_SYSTEMS


def ending_of(name: str) -> str:
    """Return the ending of a file's name, in lower case with its dot; empty if there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - fast, for many files


def find_class_files(folders: Mapping[str, Path]) -> dict[str, ClassFiles]:
    """Return what each class folder holds, sub-folders included.

    A link counts only where it leads to a file that is not among the classes' own; a link to a class folder, or to a
    folder around it, is not followed.

    Args:
        folders: The classes' folders, by name.

    Raises:
        PairsLitError: One file stands in two classes, or a folder cannot be listed.
    """
    homes = [Path(os.path.realpath(folder)) for folder in folders.values()]
    classes = {name: ClassFiles() for name in folders}
    files = [file for name, top in folders.items() for file in _walk(name, top, classes[name], homes)]
    owners: dict[object, _File] = {}
    for file in sorted(files, key=lambda file: file.rank):
        first, found = owners.setdefault(_identity(file.path), file), classes[file.name]
        if first is file:
            found.images.append(file.path)
            found.nested += file.path.parent != folders[file.name]
        elif first.name == file.name or (file.is_link and not first.is_link):
            found.links += 1
        else:
            raise PairsLitError(
                f"data.source: {file.path} is the same file as {first.path}, of another class: remove one of the two."
            )
    for found in classes.values():
        found.images.sort(key=lambda path: (str(path.parent), path.name))
    return classes


def _walk(name: str, top: Path, found: ClassFiles, homes: Sequence[Path]) -> Iterator[_File]:
    """Yield the image files of a class, and note all else in what was found."""
    waiting, seen, endings = [(top, False)], {os.path.realpath(top)}, readable_endings()
    while waiting:
        folder, is_in_link = waiting.pop()
        for entry in _entries(folder):
            is_link, ending = is_in_link or entry.is_symlink(), ending_of(entry.name)
            if entry.is_dir():
                found.folders += [entry.name] if folder == top else []
                real = os.path.realpath(entry.path)
                if real in seen or (entry.is_symlink() and any(_overlap(Path(real), home) for home in homes)):
                    found.links += 1
                else:
                    seen.add(real)
                    waiting.append((Path(entry.path), is_link))
            elif ending in endings:
                yield _File(name, Path(entry.path), is_link)
            else:
                found.skipped[ending or "no ending"] += 1


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise PairsLitError(
            f"data.source: {folder} cannot be listed ({error.strerror}): change its permissions."
        ) from error


def _identity(path: Path) -> object:
    """Return what is the same for all names of one file; a link that leads nowhere is a file of its own."""
    try:
        found = path.stat()
    except OSError:
        return path
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)
