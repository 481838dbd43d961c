"""Search for the image files in class folders; a file that several links lead to counts once."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pairs_lit.data.image_reader import list_readable_extensions
from pairs_lit.errors import PairsLitError

_HIDDEN_PREFIXES = (".", "__")  # .ipynb_checkpoints, __MACOSX, __pycache__
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")


@dataclass
class ClassFiles:
    """Contents of one class folder.

    Attributes:
        images: The image files, sorted by folder and name.
        skipped: The number of other files, by extension.
        subfolders: The names of the sub-folders.
        num_nested: The number of image files in sub-folders.
        num_links: The number of links that were ignored because they lead to a file or folder that already counts.
    """

    images: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    subfolders: list[str] = field(default_factory=list)
    num_nested: int = 0
    num_links: int = 0


@dataclass(frozen=True)
class _File:
    """An image file of a class.

    Attributes:
        class_name: The name of the class.
        path: The path by which the file was found.
        is_link: Whether this path goes through a symbolic link.
    """

    class_name: str
    path: Path
    is_link: bool

    @property
    def sort_key(self) -> tuple[bool, str, str]:
        """The sort key among all paths of one file: paths through a link come last."""
        return self.is_link, *get_path_sort_key(self.path)


def is_hidden(name: str) -> bool:
    """Return whether a name is hidden (``.git``) or made by systems and tools (``__MACOSX``, ``thumbs.db``)."""
    return name.startswith(_HIDDEN_PREFIXES) or name.lower() in _SYSTEM_FILES


def get_extension(name: str) -> str:
    """Return a file name's extension in lower case with its dot, or an empty text if there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - faster than pathlib for many files


def get_path_sort_key(path: Path) -> tuple[str, str]:
    """Return the sort key of an image file: its folder, then its name, in the same order on every system."""
    return path.parent.as_posix(), path.name


def find_class_files(folders: Mapping[str, Path]) -> dict[str, ClassFiles]:
    """Return the contents of each class folder, including its sub-folders.

    A link to a file counts only if no class folder holds that file itself. A link to a class folder, or to a folder
    that contains one, is not followed.

    Args:
        folders: The class folders, by class name.

    Raises:
        PairsLitError: If two classes share a file, or a folder cannot be listed.
    """
    real_folders = [Path(os.path.realpath(folder)) for folder in folders.values()]
    classes = {name: ClassFiles() for name in folders}
    files = [
        file for name, top in folders.items() for file in _iter_image_files(name, top, classes[name], real_folders)
    ]
    first_paths: dict[object, _File] = {}
    for file in sorted(files, key=lambda file: file.sort_key):
        first, class_files = first_paths.setdefault(_get_file_identity(file.path), file), classes[file.class_name]
        if first is file:
            class_files.images.append(file.path)
            class_files.num_nested += file.path.parent != folders[file.class_name]
        elif first.class_name == file.class_name or (file.is_link and not first.is_link):
            class_files.num_links += 1
        else:
            raise PairsLitError(
                f"data.source: a file must belong to one class only, got {first.path} and {file.path}, which are the "
                "same file. Remove one of the two."
            )
    for class_files in classes.values():
        class_files.images.sort(key=get_path_sort_key)
    return classes


def _iter_image_files(name: str, top: Path, class_files: ClassFiles, real_folders: Sequence[Path]) -> Iterator[_File]:
    """Yield the image files of a class, and record its other entries in ``class_files``."""
    pending, visited, extensions = [(top, False)], {os.path.realpath(top)}, list_readable_extensions()
    while pending:
        folder, is_in_link = pending.pop()
        for entry in _list_entries(folder):
            is_link, extension = is_in_link or entry.is_symlink(), get_extension(entry.name)
            if entry.is_dir():
                class_files.subfolders += [entry.name] if folder == top else []
                real_path = os.path.realpath(entry.path)
                is_class_link = entry.is_symlink() and any(_has_overlap(Path(real_path), real) for real in real_folders)
                if real_path in visited or is_class_link:
                    class_files.num_links += 1
                else:
                    visited.add(real_path)
                    pending.append((Path(entry.path), is_link))
            elif extension in extensions:
                yield _File(name, Path(entry.path), is_link)
            else:
                class_files.skipped[extension or "no extension"] += 1


def _has_overlap(first: Path, second: Path) -> bool:
    """Return whether one of two folders is the other one or lies inside it."""
    return first.is_relative_to(second) or second.is_relative_to(first)


def _list_entries(folder: Path) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise PairsLitError(
            f"data.source: {folder} must be readable, got {error.strerror!r}. Change its permissions."
        ) from error


def _get_file_identity(path: Path) -> object:
    """Return a value that is equal for all paths of one file: device and inode, or the path of a broken link."""
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
