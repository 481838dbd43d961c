"""A folder of pictures, one sub-folder a class: torchvision's ImageFolder, sorted as people count."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from pairs_lit.data.pictures import grey
from pairs_lit.errors import PairsLitError

_TRAIN, _TEST, _VALIDATION = "train", "test", ("val", "valid", "validation")


class PictureFolder(ImageFolder):  # type: ignore[misc] # torchvision ships no types
    """Grey pictures (H, W) uint8 of a folder that holds one sub-folder for each class.

    Hidden files and folders, which systems leave behind, are no pictures and no classes.

    Args:
        root: The folder.
        classes: The names of the classes; they need not all be there. None: those of the sub-folders, ``2`` before
            ``10``.

    Raises:
        PairsLitError: There is a sub-folder of another name, or one without pictures.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        found = _sub_folders(root)
        other = next((name for name in found if classes is not None and name not in classes), None)
        if other is not None:
            raise PairsLitError(f"data.source: {root / other} is a class that the training pictures lack: remove it.")
        self._names = list(found if classes is None else classes)
        super().__init__(root, loader=_read, is_valid_file=_is_picture, allow_empty=True)
        full = {label for _, label in self.samples}
        empty = next((name for place, name in enumerate(self._names) if name in found and place not in full), None)
        if empty is not None:
            raise PairsLitError(
                f"data.source: {root / empty} holds no pictures ({' '.join(IMG_EXTENSIONS)}): each sub-folder is a "
                "class and needs some."
            )

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the names of the classes in their order, and their numbers."""
        return self._names, {name: place for place, name in enumerate(self._names)}


def picture_folders(root: Path) -> list[PictureFolder]:
    """Return the parts of a folder of pictures.

    A folder with sub-folders ``train`` and ``test`` has these two parts, or three with ``val`` between them (or
    ``valid``, or ``validation``); any other has one.

    Raises:
        PairsLitError: The folder does not exist or holds no classes, or has no test pictures beside ``train``.
    """
    if not root.is_dir():
        raise PairsLitError(f"data.root is {root}: there is no such folder; name one with a sub-folder for each class.")
    found = _sub_folders(root)
    if not found:
        raise PairsLitError(
            f"data.root is {root}, which holds no folders: a folder of pictures has a sub-folder for each class."
        )
    only_parts = set(found) <= {_TRAIN, _TEST, *_VALIDATION}
    if _TRAIN not in found or not (_TEST in found or only_parts):
        return [PictureFolder(root)]
    lacking = next((name for name in (_TRAIN, _TEST) if name not in found or not _sub_folders(root / name)), None)
    if lacking is not None:
        raise PairsLitError(
            f"data.root is {root}, which holds {' and '.join(found)}: {lacking} with a sub-folder for each class is "
            "missing there; or leave parts out, and put all pictures of a class into one folder."
        )
    train = PictureFolder(root / _TRAIN)
    others = [*[name for name in found if name in _VALIDATION][:1], _TEST]
    return [train, *(PictureFolder(root / name, train.classes) for name in others)]


def _sub_folders(folder: Path) -> list[str]:
    hidden = (".", "__")  # __MACOSX, __pycache__
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden)]
    return sorted(names, key=_natural)


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return a key by which numbers within names count as numbers: ``2`` before ``10``, ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], name


def _is_picture(path: str) -> bool:
    return not Path(path).name.startswith(".") and path.lower().endswith(IMG_EXTENSIONS)


def _read(path: str) -> Tensor:
    with Image.open(path) as picture:
        return grey(picture)
