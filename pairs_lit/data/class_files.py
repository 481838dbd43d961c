"""The image files of class folders: each file counts once, whatever links lead to it."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairs_lit.data.image_reader import readable_endings
from pairs_lit.errors import PairsLitError

_HIDDEN = (".", "__")  # .ipynb_checkpoints, __MACOSX, __pycache__
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


@dataclass
class ClassFiles:
    """What was found in the folder of one class.

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

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self.images) + self.skipped.total()


@dataclass(frozen=True)
class _File:
    """An image file as it was found: by which class, in which folder, and whether a link leads to it."""

    name: str
    path: Path
    is_link: bool


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
    walk = _Walk([Path(os.path.realpath(folder)) for folder in folders.values()])
    for name, folder in folders.items():
        walk.visit(name, folder)
    return walk.settle()


class _Walk:
    """A walk through all class folders."""

    def __init__(self, homes: Sequence[Path]) -> None:
        self._homes = homes
        self._endings = readable_endings()
        self._classes: dict[str, ClassFiles] = {}
        self._tops: dict[str, Path] = {}
        self._files: list[_File] = []

    def visit(self, name: str, top: Path) -> None:
        """Note all files of a class."""
        found = self._classes[name] = ClassFiles()
        self._tops[name] = top
        waiting, seen = [(top, False)], {os.path.realpath(top)}
        while waiting:
            folder, is_link = waiting.pop()
            for entry in _entries(folder):
                linked = is_link or entry.is_symlink()
                if entry.is_dir():
                    found.folders += [entry.name] if folder == top else []
                    real = os.path.realpath(entry.path)
                    if real in seen or (entry.is_symlink() and self._is_among_classes(Path(real))):
                        found.links += 1
                        continue
                    seen.add(real)
                    waiting.append((Path(entry.path), linked))
                else:
                    self._note(name, entry, is_link=linked)

    def _is_among_classes(self, place: Path) -> bool:
        return any(place == home or home in place.parents or place in home.parents for home in self._homes)

    def _note(self, name: str, entry: "os.DirEntry[str]", *, is_link: bool) -> None:
        ending = ending_of(entry.name)
        if ending in self._endings:
            self._files.append(_File(name, Path(entry.path), is_link))
        else:
            self._classes[name].skipped[ending or "no ending"] += 1

    def settle(self) -> dict[str, ClassFiles]:
        """Give each file to one class: where it lies itself, else where a link names it."""
        owners: dict[object, _File] = {}
        for file in sorted(self._files, key=lambda file: (file.is_link, str(file.path.parent), file.path.name)):
            first = owners.setdefault(_identity(file.path), file)
            if first is file:
                self._classes[file.name].images.append(file.path)
            elif first.name == file.name or (file.is_link and not first.is_link):
                self._classes[file.name].links += 1
            else:
                raise PairsLitError(
                    f"data.source: {file.path} is the same file as {first.path}, of another class: remove one of the "
                    "two."
                )
        for name, found in self._classes.items():
            found.images.sort(key=lambda path: (str(path.parent), path.name))
            found.nested = sum(path.parent != self._tops[name] for path in found.images)
        return self._classes


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
