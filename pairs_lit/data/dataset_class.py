"""Datasets named by class path, torchvision's or the user's own: built from arguments, downloaded where absent."""

import inspect
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torchvision import datasets

from pairs_lit.data.download import download_folder
from pairs_lit.data.mnist import unpack
from pairs_lit.errors import PairsLitError
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.system.tracebacks import own_place_of, reason_of
from pairs_lit.system.user_modules import hidden_file, import_path

_HALVES = {"train": ("train", "trainval"), "test": ("test", "val", "valid")}
"""What the training part and the test part are called by datasets that take ``split``."""


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset of labelled images, as a config names it.

    Attributes:
        path: The import path of its class, or of a function that returns one.
        root: Where its files lie, its argument ``root``.
        arguments: Its other arguments.
    """

    path: str
    root: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def factory(self) -> Callable[..., Any]:
        """The class or function.

        Raises:
            PairsLitError: There is no such thing, or it cannot be called.
        """
        try:
            found = import_path(self.path)
        except Exception as error:  # a file of the user's may raise anything when it is imported
            raise PairsLitError(
                f"data.source: {self.path}: {describe_error(error)}{hidden_file(self.path)}."
            ) from error
        if not callable(found):
            raise PairsLitError(f"data.source: {self.path} must be a dataset class, got a {type(found).__name__}.")
        factory: Callable[..., Any] = found
        return factory

    @property
    def name(self) -> str:
        """What the dataset is called in tables, with those of its arguments that are short and plain."""
        short = self.path.removeprefix("torchvision.datasets.")
        plain = {name: str(value) for name, value in self.arguments.items() if name not in ("root", "download")}
        shown = [f"{name} {value}" for name, value in plain.items() if re.fullmatch(r"[\w.+-]{1,30}", value)]
        whole = f"{short} ({' '.join(shown)})" if shown else short
        return re.sub(r"[^\w.+ ()-]", "-", whole)[:100]

    @cached_property
    def _parameters(self) -> tuple[list[str], bool]:
        return _parameters_of(self.factory)

    @cached_property
    def _place(self) -> Path:
        return user_path(str(self.arguments.get("root", self.root)))

    def parts(self) -> list[object]:
        """Return the training part and the test part, or the whole dataset where it makes no difference between them.

        A class that takes ``train`` is asked for both; one that takes ``split``, for ``train`` and ``test``. Where the
        config gives these arguments, that part is the whole dataset.

        Raises:
            PairsLitError: It cannot be made.
        """
        names, is_open = self._parameters
        unknown = next((name for name in self.arguments if name not in names and not is_open), None)
        if unknown is not None:
            raise PairsLitError(
                f"data.source: {self.path} takes no argument {unknown!r}: it takes {', '.join(names) or 'none'}."
            )
        if "train" in names and "train" not in self.arguments:
            return [self._build({"train": True}), self._build({"train": False})]
        if "split" in names and "split" not in self.arguments:
            return [self._build_half(part) for part in _HALVES]
        return [self._build({})]

    def _build_half(self, part: str) -> object:
        """Return one part of a dataset that takes ``split``, by the first name for it that the dataset knows."""
        *others, last = _HALVES[part]
        for name in others:
            try:
                return self._build({"split": name})
            except PairsLitError as error:
                if not isinstance(error.__cause__, ValueError) or name not in str(error.__cause__):
                    raise
        return self._build({"split": last})

    def _build(self, part: Mapping[str, Any]) -> object:
        """Build a part; download its files first where they are absent and it can."""
        own = {"root": str(self._place)} if "root" in self._parameters[0] or "root" in self.arguments else {}
        given = {**part, **self.arguments, **own}
        if "download" not in self._parameters[0] or "download" in self.arguments:
            return self._call(given)
        try:
            return self._call({**given, "download": False})
        except PairsLitError as error:
            if not _is_absence(error.__cause__):
                raise
        found = self._build_from_packed(given)
        return found if found is not None else self._download(given)

    def _call(self, arguments: Mapping[str, Any]) -> object:
        try:
            return self.factory(**arguments)
        except PairsLitError:
            raise
        except Exception as error:  # whatever a class of the user's raises
            where = f" from {self._place}" if "root" in self._parameters[0] else ""
            raise PairsLitError(f"data.source: {self.path} cannot be read{where}: {describe_error(error)}.") from error

    def _build_from_packed(self, given: Mapping[str, Any]) -> object | None:
        """Read a dataset in MNIST's format of which there are packed files only; torchvision wants unpacked ones."""
        raw = self._place / getattr(self.factory, "__name__", "") / "raw"
        is_like_mnist = inspect.isclass(self.factory) and issubclass(self.factory, datasets.MNIST)
        if not is_like_mnist or not any(raw.glob("*.gz")):
            return None
        with tempfile.TemporaryDirectory(prefix="pairs_lit-") as elsewhere:
            own = Path(elsewhere) / raw.relative_to(self._place)
            own.mkdir(parents=True)
            for file in sorted(raw.iterdir(), reverse=True):  # an unpacked one comes last, and counts
                name = file.name.removesuffix(".gz")
                if file.is_file() and not (own / name).exists():
                    shutil.copyfile(unpack(file, own / f"{name}.unpacked"), own / name)
            try:
                return self._call({**given, "root": elsewhere, "download": False})
            except PairsLitError as error:
                if _is_absence(error.__cause__):
                    return None
                raise PairsLitError(str(error).replace(elsewhere, str(self._place))) from error

    def _download(self, given: Mapping[str, Any]) -> object:
        """Download the files and read the dataset."""
        notice(f"downloading {self.path} to {self._place} …")
        try:
            with download_folder(self._place) as folder:
                self._fetch(given, folder)
        except Exception as error:  # whatever a download raises
            reason = reason_of(error.__cause__ or error)
            raise PairsLitError(
                f"data.source: {self.path} is not in {self._place} and cannot be downloaded ({reason}): set data.root "
                "to the folder that holds it."
            ) from error
        return self._call({**given, "download": False})

    def _fetch(self, given: Mapping[str, Any], folder: Path) -> None:
        """Download into a folder, and move what is not there yet to the dataset's place."""
        try:
            self._call({**given, "download": False})
        except PairsLitError:
            pass
        else:  # another process was first
            return
        self._call({**given, **({"root": str(folder)} if "root" in given else {}), "download": True})
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            target = self._place / file.relative_to(folder)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)


def describe_error(error: BaseException) -> str:
    """Return what an error says, and where in the user's own code it arose, if it did."""
    place = own_place_of(error)
    return f"{reason_of(error)} ({place})" if place else reason_of(error)


def _is_absence(error: BaseException | None) -> bool:
    """Return whether a dataset could not be built because its files are absent; the user must look at damaged ones."""
    is_lookup = isinstance(error, RuntimeError) and "not found" in str(error)
    return isinstance(error, FileNotFoundError | HTTPException) or is_lookup


def _parameters_of(factory: Callable[..., Any]) -> tuple[list[str], bool]:
    """Return the names of the arguments, and whether further ones are taken, too.

    A class that hands on what it is given takes the arguments of its base classes, too.
    """
    bases = factory.__mro__[:-1] if inspect.isclass(factory) else ()
    makers = [vars(each)["__init__"] for each in bases if "__init__" in vars(each)] if bases else [factory]
    names: dict[str, None] = {}
    for maker in makers:
        try:
            parameters = list(inspect.signature(maker).parameters.values())[1 if bases else 0 :]  # without self
        except (TypeError, ValueError):  # made in C
            return list(names), True
        named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        names |= dict.fromkeys(each.name for each in named)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return list(names), False
    return list(names), bool(makers)
