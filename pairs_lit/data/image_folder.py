"""Folders of images, one sub-folder for each class, as torchvision's ImageFolder lays them out."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from pairs_lit.data.class_files import ClassFiles, ending_of, find_class_files, is_hidden
from pairs_lit.data.class_names import join_names, sort_names
from pairs_lit.data.image_reader import open_image, readable_endings
from pairs_lit.errors import PairsLitError
from pairs_lit.text import counted

_PARTS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["val", "valid", "validate", "validation", "dev", "development"], "val"),
    **dict.fromkeys(["test", "tests", "testing"], "test"),
}
"""The part that a folder of this name holds; see :func:`_part_of` for how names are read."""

_SPELLINGS = "train, training, trainingSet, train_set; test, testing, test-set; val, valid, validation, dev"
_STILLS = ("JPEG", "MPO", "ICO", "ICNS", "CUR")
"""Formats whose further images are previews, depth maps or other sizes of the first one."""


class ImageFolder:
    """The labelled images of a folder that holds one sub-folder for each class.

    Hidden files and folders, which systems leave behind, are no images and no classes. Images in folders within a
    class folder belong to the class.

    Args:
        root: The folder.
        classes: The names of the classes; they need not all be there. None: those of the sub-folders.

    Attributes:
        classes: The names of the classes, see :func:`~pairs_lit.data.class_names.sort_names`.
        samples: The image files with the numbers of their classes, in the order of torchvision's ImageFolder.

    Raises:
        PairsLitError: There is a sub-folder of another name, one without images of its own, or a file in two classes.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        self._root = root
        folders, self._aliases = _class_folders(root)
        other = next((name for name in folders if classes is not None and name not in classes), None)
        if other is not None:
            raise PairsLitError(f"data.source: {root / other} is a class that the training images lack: remove it.")
        self.classes = sort_names(folders) if classes is None else list(classes)
        self._files = find_class_files(folders)
        for name, files in self._files.items():
            _check_images(root / name, files, only=len(folders) == 1)
        self.samples = [
            (str(path), self.classes.index(name)) for name in sorted(folders) for path in self._files[name].images
        ]
        self._animated: set[str] = set()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        """Return an image as it stands in its file, and the number of its class."""
        path, label = self.samples[place]
        with open_image(path) as image:
            if image.format not in _STILLS and getattr(image, "is_animated", False):
                self._animated.add(path)
            image.load()
            return image.copy(), label

    def notes(self) -> list[str]:
        """Return what to tell of the folder, a line each; complete once all images were read."""
        skipped, links, nested = {}, {}, {}
        for name, files in self._files.items():
            count, more = len(files.images), files.skipped.total()
            if more:
                skipped[name] = f"{more} of {count + more} files skipped ({', '.join(sorted(files.skipped))})"
            if files.links:
                links[name] = f"{counted(files.links, 'link')} ignored"
            if files.nested:
                nested[name] = (
                    f"{files.nested} of {count} images in its sub-folders ({join_names(sorted(files.folders))})"
                )
        missing = [name for name in self.classes if name not in self._files]
        animated = counted(len(self._animated), "file") if self._animated else ""
        return _lines(
            self._root,
            (_by_class(skipped), " – Pillow does not read them"),
            (_by_class(links), " – they lead to files that count already"),
            (_by_class(nested), " – they count as images of the class"),
            (join_names(self._aliases), " is a link to another of these folders: it is no class of its own"),
            (join_names(missing), " has no folder here: no image of the class is in this part"),
            _strays(self._root),
            (animated, " with several frames: only the first frame is read"),
        )


def find_parts(root: Path) -> list[ImageFolder]:
    """Return the parts of a folder of images.

    A folder with sub-folders ``train`` and ``test`` has these two parts, or three with ``val`` between them, in any of
    their common spellings; any other has one.

    Raises:
        PairsLitError: The folder does not exist or holds no classes, has no test images beside ``train``, or has two
            folders for one part.
    """
    if not root.is_dir():
        raise PairsLitError(f"data.root is {root}: there is no such folder; name one with a sub-folder for each class.")
    found = sort_names(_sub_folders(root))
    if not found:
        raise PairsLitError(
            f"data.root is {root}, which holds no folders: a folder of images has a sub-folder for each class."
        )
    names = _names_of_parts(root, found)
    only_parts = sum(len(each) for each in names.values()) == len(found)
    if not names["train"] or not (names["test"] or only_parts):
        return [ImageFolder(root)]
    lacking = next((part for part in ("train", "test") if not any(_sub_folders(root / n) for n in names[part])), None)
    if lacking is not None:
        raise PairsLitError(
            f"data.root is {root}, which holds {' and '.join(found)}: {lacking} with a sub-folder for each class is "
            "missing there; or leave parts out, and put all images of a class into one folder."
        )
    train = ImageFolder(root / names["train"][0])
    return [train, *(ImageFolder(root / name, train.classes) for part in ("val", "test") for name in names[part])]


def notes_beside_parts(root: Path) -> list[str]:
    """Return what to tell of what lies beside ``train`` and ``test`` and belongs to no part, a line each."""
    parts = {name: _part_of(name) for name in sort_names(_sub_folders(root))}
    if not {"train", "test"} <= set(parts.values()):
        return []
    others = join_names([name for name, part in parts.items() if part is None])
    ignored = f"folders ignored ({others})" if others else ""
    return _lines(root, (ignored, ": they are no parts of the dataset"), _strays(root))


def _names_of_parts(root: Path, found: Sequence[str]) -> dict[str, list[str]]:
    """Return which sub-folder is which part; refuse two that are the same one, where there are parts at all."""
    names = {part: [name for name in found if _part_of(name) == part] for part in ("train", "val", "test")}
    twice = next((each for each in names.values() if len(each) > 1), None)
    if twice is not None and names["train"] and (names["test"] or names["val"]):
        raise PairsLitError(
            f"data.root is {root}, which holds {' and '.join(twice)}: they are names of the same part. Remove or "
            "rename one of them."
        )
    return names


def _part_of(name: str) -> str | None:
    """Return the part that a folder's name stands for: in any case, with or without ``set`` or the like at its end."""
    text = re.sub(r"[\s_.-]", "", name.casefold())
    return _PARTS.get(text) or _PARTS.get(re.sub(r"(data)?(set|data|images|split|folder)$", "", text))


def _sub_folders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


def _class_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the class folders by name, and the names of links to the root, around it, or into a class folder."""
    folders = {name: root / name for name in sort_names(_sub_folders(root))}
    links = {name: Path(os.path.realpath(path)) for name, path in folders.items() if path.is_symlink()}
    home, own = Path(os.path.realpath(root)), [os.path.realpath(folders[name]) for name in folders if name not in links]
    aliases = [
        name for name, target in links.items() if home.is_relative_to(target) or any(map(target.is_relative_to, own))
    ]
    return {name: path for name, path in folders.items() if name not in aliases}, aliases


def _check_images(folder: Path, files: ClassFiles, *, only: bool) -> None:
    """Raise PairsLitError if a class folder holds no images itself."""
    if files.folders and len(files.images) == files.nested:
        there = f" Set data.root to {folder}." if only else f" Parts of a dataset are called {_SPELLINGS}."
        inner = join_names(sorted(files.folders))
        raise PairsLitError(
            f"data.source: {folder} must hold the images of a class, got only folders ({inner}).{there}"
        )
    if not files.images:
        what = f"; {files.skipped.total()} files skipped: {', '.join(sorted(files.skipped))}" if files.skipped else ""
        raise PairsLitError(
            f"data.source: {folder} holds no images (.jpg, .png, .gif, .tif and others that Pillow reads{what}): "
            "each sub-folder is a class and needs some."
        )


def _lines(root: Path, *notes: tuple[str, str]) -> list[str]:
    """Return what is said of a folder, a line for each subject that is not empty, followed by what is said of it."""
    return [f"{root.name or root}: {subject}{text}" for subject, text in notes if subject]


def _by_class(found: Mapping[str, str]) -> str:
    """Return what was found in some classes, in one line; empty if there are none."""
    lines = [f"class {name}: {text}" for name, text in found.items()]
    more = [f"and {len(lines) - 10} classes more"] if len(lines) > 10 else []
    return "; ".join(lines[:10] + more)


def _strays(root: Path) -> tuple[str, str]:
    """Return how many images lie beside the class folders, empty if none do, and what is said of them."""
    endings = readable_endings()
    strays = [path for path in root.iterdir() if ending_of(path.name) in endings and not is_hidden(path.name)]
    count = sum(path.is_file() for path in strays)
    return counted(count, "image") if count else "", " beside the class folders ignored: each belongs to no class"
