"""Folders of images with one sub-folder for each class, in the layout of torchvision's ImageFolder."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from pairs_lit.data.class_files import ClassFiles, find_class_files, get_extension, is_hidden
from pairs_lit.data.class_names import join_names, sort_names
from pairs_lit.data.image_reader import list_readable_extensions, open_image
from pairs_lit.errors import PairsLitError
from pairs_lit.system.file_names import group_case_variants
from pairs_lit.text import format_count

_PART_BY_NAME = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["val", "valid", "validate", "validation", "dev", "development"], "val"),
    **dict.fromkeys(["test", "tests", "testing"], "test"),
}
"""The part of the dataset for each normalised folder name; see :func:`_parse_part` for the normalisation."""

_PART_NAME_EXAMPLES = "train, training, trainingSet, train_set; test, testing, test-set; val, valid, validation, dev"
_STILL_FORMATS = ("JPEG", "MPO", "ICO", "ICNS", "CUR")
"""Formats in which the images after the first are previews, depth maps or other sizes, not frames."""


class ImageFolder:
    """Labelled images of a folder that holds one sub-folder for each class.

    Hidden files and folders are ignored, as are those that operating systems create. Images in sub-folders of a class
    folder belong to the class.

    Args:
        root: The folder.
        classes: The allowed class names, some of which may be missing from the folder. If None, the names of the
            sub-folders are the classes.

    Attributes:
        classes: The class names, sorted by :func:`~pairs_lit.data.class_names.sort_names`.
        samples: Pairs of an image file and its class number, in the order of torchvision's ImageFolder.

    Raises:
        PairsLitError: If a sub-folder's name is not among ``classes``, a class folder directly holds no images, or two
            classes share a file.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        self._root = root
        folders, self._aliases = _find_class_folders(root)
        unknown = next((name for name in folders if classes is not None and name not in classes), None)
        if unknown is not None:
            raise PairsLitError(
                f"data.source: every class must have training images, got the class {root / unknown} without any. "
                "Remove the folder, or add training images of this class."
            )
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

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return the first frame of an image file, unchanged, and the number of its class."""
        path, label = self.samples[index]
        with open_image(path) as image:
            if image.format not in _STILL_FORMATS and getattr(image, "is_animated", False):
                self._animated.add(path)
            image.load()
            return image.copy(), label

    def describe_contents(self) -> list[str]:
        """Return notices about unusual contents of the folder; they are complete once all images have been read."""
        skipped, links, nested = {}, {}, {}
        for name, files in self._files.items():
            count, num_skipped = len(files.images), files.skipped.total()
            if num_skipped:
                extensions = ", ".join(sorted(files.skipped))
                skipped[name] = f"{num_skipped} of {count + num_skipped} files skipped ({extensions})"
            if files.num_links:
                links[name] = f"{format_count(files.num_links, 'link')} ignored"
            if files.num_nested:
                nested[name] = (
                    f"{files.num_nested} of {count} images in its sub-folders ({join_names(sorted(files.subfolders))})"
                )
        aliases = f"folder links ignored ({join_names(self._aliases)})" if self._aliases else ""
        missing = [name for name in self.classes if name not in self._files]
        without_folder = f"classes without a folder ({join_names(missing)})" if missing else ""
        animated = format_count(len(self._animated), "file") if self._animated else ""
        alike = ", ".join(" and ".join(names) for names in group_case_variants(self._files))
        return _format_notes(
            self._root,
            (_format_by_class(skipped), ", because Pillow does not read them"),
            (_format_by_class(links), ", because the same files are counted already"),
            (_format_by_class(nested), ", which count as images of the class"),
            (aliases, ", because they lead to this folder itself or to another of its folders"),
            (without_folder, ", so this part has no images of them"),
            _describe_stray_images(self._root),
            (animated, " with several frames, of which only the first is read"),
            (alike, " differ in case only, so a copy of this folder on Windows or macOS would merge these classes"),
        )


def find_parts(root: Path) -> list[ImageFolder]:
    """Return the parts of a folder of images: train and test, or train, validation and test, or a single part.

    The parts are sub-folders named ``train``, ``val`` and ``test``, in any common spelling. A folder without ``train``
    and ``test`` is a single part.

    Raises:
        PairsLitError: If the folder does not exist or holds no classes, has ``train`` but no test images, or has two
            folders for the same part.
    """
    if not root.is_dir():
        raise PairsLitError(
            f"data.root must be a folder with a sub-folder for each class, got {root}, which is not a folder. Check "
            "the path."
        )
    subfolders = sort_names(_list_subfolders(root))
    if not subfolders:
        raise PairsLitError(
            f"data.root must be a folder with a sub-folder for each class, got {root}, which has no sub-folders. Move "
            "the images of each class into a folder."
        )
    names = _group_by_part(root, subfolders)
    has_only_parts = sum(len(part_names) for part_names in names.values()) == len(subfolders)
    if not names["train"] or not (names["test"] or has_only_parts):
        return [ImageFolder(root)]
    missing = next(
        (part for part in ("train", "test") if not any(_list_subfolders(root / n) for n in names[part])), None
    )
    if missing is not None:
        raise PairsLitError(
            f"data.root must hold train and test, each with a sub-folder for each class, got {root}, which holds "
            f"{' and '.join(subfolders)} and no such {missing}. Add it, or put all images of a class into one folder "
            f"{root}/CLASS."
        )
    train = ImageFolder(root / names["train"][0])
    return [train, *(ImageFolder(root / name, train.classes) for part in ("val", "test") for name in names[part])]


def describe_ignored_entries(root: Path) -> list[str]:
    """Return notices about folders and images next to ``train`` and ``test`` that belong to no part."""
    parts = {name: _parse_part(name) for name in sort_names(_list_subfolders(root))}
    if not {"train", "test"} <= set(parts.values()):
        return []
    others = join_names([name for name, part in parts.items() if part is None])
    ignored = f"folders ignored ({others})" if others else ""
    return _format_notes(
        root, (ignored, ", because they are not named like parts of a dataset"), _describe_stray_images(root)
    )


def _group_by_part(root: Path, subfolders: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the sub-folders that hold each part.

    Raises:
        PairsLitError: If the folder is divided into parts, and two sub-folders are the same part.
    """
    names = {part: [name for name in subfolders if _parse_part(name) == part] for part in ("train", "val", "test")}
    duplicates = next((part_names for part_names in names.values() if len(part_names) > 1), None)
    if duplicates is not None and names["train"] and (names["test"] or names["val"]):
        raise PairsLitError(
            f"data.root must hold one folder for each part, got {root} with {' and '.join(duplicates)}, which are "
            "names of the same part. Remove or rename one of them."
        )
    return names


def _parse_part(name: str) -> str | None:
    """Return the part that a folder's name stands for (train, val or test), or None if it names no part.

    Case, separators, and a suffix such as ``set`` or ``data`` are ignored.
    """
    text = re.sub(r"[\s_.-]", "", name.casefold())
    return _PART_BY_NAME.get(text) or _PART_BY_NAME.get(re.sub(r"(data)?(set|data|images|split|folder)$", "", text))


def _list_subfolders(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]


def _find_class_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the class folders by name, and the names of links that are no classes.

    Those are links to the root, to a folder that contains it, or to a class folder or something in it.
    """
    folders = {name: root / name for name in sort_names(_list_subfolders(root))}
    links = {name: Path(os.path.realpath(path)) for name, path in folders.items() if path.is_symlink()}
    real_root = Path(os.path.realpath(root))
    real_folders = [os.path.realpath(folders[name]) for name in folders if name not in links]
    aliases = [
        name
        for name, target in links.items()
        if real_root.is_relative_to(target) or any(map(target.is_relative_to, real_folders))
    ]
    return {name: path for name, path in folders.items() if name not in aliases}, aliases


def _check_images(folder: Path, files: ClassFiles, *, only: bool) -> None:
    """Raise PairsLitError if a class folder holds no images, or only images in sub-folders.

    Args:
        folder: The class folder.
        files: Its contents.
        only: Whether it is the only class folder, so that ``data.root`` is likely meant to be that folder.
    """
    if files.subfolders and len(files.images) == files.num_nested:
        fix = (
            f"Set data.root to {folder}."
            if only
            else f"If they are parts of a dataset, call them {_PART_NAME_EXAMPLES}."
        )
        subfolders = join_names(sorted(files.subfolders))
        raise PairsLitError(
            f"data.source: {folder} must hold the images of a class, got only folders ({subfolders}). {fix}"
        )
    if not files.images:
        extensions = ", ".join(sorted(files.skipped))
        contents = (
            f"only {format_count(files.skipped.total(), 'other file')} ({extensions})" if files.skipped else "none"
        )
        raise PairsLitError(
            f"data.source: {folder} must hold images of its class (.jpg, .png, .gif, .tif or another format that "
            f"Pillow reads), got {contents}. Add images, or remove the folder."
        )


def _format_notes(root: Path, *notes: tuple[str, str]) -> list[str]:
    """Return notices about a folder: a line for each subject that is not empty, followed by its text."""
    return [f"{root.name or root}: {subject}{text}" for subject, text in notes if subject]


def _format_by_class(texts: Mapping[str, str]) -> str:
    """Return the texts of some classes as one line, at most ten of them; empty if there are none."""
    lines = [f"class {name}: {text}" for name, text in texts.items()]
    more = [f"and {len(lines) - 10} more classes"] if len(lines) > 10 else []
    return "; ".join(lines[:10] + more)


def _describe_stray_images(root: Path) -> tuple[str, str]:
    """Return subject and text of a notice about images outside the class folders; the subject is empty without any."""
    extensions = list_readable_extensions()
    strays = [path for path in root.iterdir() if get_extension(path.name) in extensions and not is_hidden(path.name)]
    count = sum(path.is_file() for path in strays)
    return format_count(count, "image") if count else "", " outside the class folders ignored"
