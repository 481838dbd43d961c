"""Datasets given by class path, from torchvision or custom: construction from arguments, and download."""

import inspect
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

from torchvision import datasets

from pairs_lit.data.download import download_folder
from pairs_lit.data.mnist import unpack_file
from pairs_lit.errors import PairsLitError
from pairs_lit.system.console import print_notice
from pairs_lit.system.files import replace_file
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.tracebacks import format_reason, locate_user_error
from pairs_lit.system.user_modules import describe_hidden_file, import_path

_SPLIT_NAMES = {"train": ("train", "trainval"), "test": ("test", "val", "valid")}
"""Values of the argument ``split`` for the training part and the test part, in the order in which they are tried."""


@dataclass(frozen=True)
class DatasetSpec:
    """Specification of a dataset of labelled images in a config.

    Attributes:
        path: The import path of a dataset class, or of a function that returns a dataset.
        root: The folder that holds the dataset's files; the default of its argument ``root``.
        arguments: The arguments of the class or function.
    """

    path: str
    root: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def factory(self) -> Callable[..., Any]:
        """The imported class or function.

        Raises:
            PairsLitError: If it cannot be imported or called.
        """
        try:
            factory: Any = import_path(self.path)
        except Exception as error:  # importing a custom file may raise any exception
            raise PairsLitError(
                f"data.source: {self.path}: {describe_error(error)}{describe_hidden_file(self.path)}."
            ) from error
        if not callable(factory):
            raise PairsLitError(f"data.source: {self.path} must be a dataset class, got a {type(factory).__name__}.")
        return cast(Callable[..., Any], factory)

    @property
    def name(self) -> str:
        """The dataset's name in tables, including its arguments that are short and free of special characters."""
        short_path = self.path.removeprefix("torchvision.datasets.")
        texts = {name: str(value) for name, value in self.arguments.items() if name not in ("root", "download")}
        short_texts = [f"{name} {value}" for name, value in texts.items() if re.fullmatch(r"[\w.+-]{1,30}", value)]
        full_name = f"{short_path} ({' '.join(short_texts)})" if short_texts else short_path
        return re.sub(r"[^\w.+ ()-]", "-", full_name)[:100]

    @cached_property
    def _parameters(self) -> tuple[list[str], bool]:
        """The names of the factory's arguments, and whether it accepts any other names."""
        return _list_parameters(self.factory)

    @cached_property
    def _folder(self) -> Path:
        """The folder of the dataset's files."""
        return expand_user_path(str(self.arguments.get("root", self.root)))

    def load_parts(self) -> list[object]:
        """Return the training part and the test part, or the whole dataset as the only part.

        A class with an argument ``train`` is called with true and false. A class with an argument ``split`` is called
        with ``train`` (else ``trainval``) and with ``test`` (else ``val`` or ``valid``). If the config sets this
        argument, the part that it chooses is the whole dataset.

        Raises:
            PairsLitError: If the dataset cannot be built.
        """
        names, takes_any = self._parameters
        unknown = next((name for name in self.arguments if name not in names and not takes_any), None)
        if unknown is not None:
            raise PairsLitError(
                f"data.source: arguments of {self.path} must be among {', '.join(names) or 'none'}, got {unknown!r}. "
                "Remove or rename it."
            )
        if "train" in names and "train" not in self.arguments:
            return [self._build({"train": True}), self._build({"train": False})]
        if "split" in names and "split" not in self.arguments:
            return [self._build_split(part) for part in _SPLIT_NAMES]
        return [self._build({})]

    def _build_split(self, part: str) -> object:
        """Build one part of a dataset with an argument ``split``, by the first value that the dataset accepts."""
        *first_names, last_name = _SPLIT_NAMES[part]
        for name in first_names:
            try:
                return self._build({"split": name})
            except PairsLitError as error:
                if not isinstance(error.__cause__, ValueError) or name not in str(error.__cause__):
                    raise
        return self._build({"split": last_name})

    def _build(self, part: Mapping[str, Any]) -> object:
        """Build a part; download its files first if they are missing and the class has an argument ``download``."""
        root = {"root": str(self._folder)} if "root" in self._parameters[0] or "root" in self.arguments else {}
        arguments = {**part, **self.arguments, **root}
        if "download" not in self._parameters[0] or "download" in self.arguments:
            return self._call_factory(arguments)
        try:
            return self._call_factory({**arguments, "download": False})
        except PairsLitError as error:
            if not _is_missing_files_error(error.__cause__):
                raise
        dataset = self._build_from_packed(arguments)
        return dataset if dataset is not None else self._download(arguments)

    def _call_factory(self, arguments: Mapping[str, Any]) -> object:
        """Return the result of the factory; raise its errors as PairsLitError, with the original error as cause."""
        try:
            return self.factory(**arguments)
        except PairsLitError:
            raise
        except Exception as error:  # a custom class may raise any exception
            where = f" from {self._folder}" if "root" in self._parameters[0] else ""
            raise PairsLitError(f"data.source: {self.path} cannot be read{where}: {describe_error(error)}.") from error

    def _build_from_packed(self, arguments: Mapping[str, Any]) -> object | None:
        """Build a dataset in MNIST's format from packed (``.gz``) files, which torchvision does not read itself.

        Return None if the dataset has another format, or files are missing.
        """
        raw = self._folder / getattr(self.factory, "__name__", "") / "raw"
        is_like_mnist = inspect.isclass(self.factory) and issubclass(self.factory, datasets.MNIST)
        if not is_like_mnist or not any(raw.glob("*.gz")):
            return None
        with tempfile.TemporaryDirectory(prefix="pairs_lit-") as temporary_root:
            unpacked = Path(temporary_root) / raw.relative_to(self._folder)
            unpacked.mkdir(parents=True)
            for file in sorted(raw.iterdir(), reverse=True):  # a .gz file comes before its unpacked copy
                name = file.name.removesuffix(".gz")
                if file.is_file() and not (unpacked / name).exists():
                    shutil.copyfile(unpack_file(file, unpacked / f"{name}.unpacked"), unpacked / name)
            try:
                return self._call_factory({**arguments, "root": temporary_root, "download": False})
            except PairsLitError as error:
                if _is_missing_files_error(error.__cause__):
                    return None
                raise PairsLitError(str(error).replace(temporary_root, str(self._folder))) from error

    def _download(self, arguments: Mapping[str, Any]) -> object:
        """Download the files and build the dataset."""
        print_notice(f"downloading {self.path} to {self._folder} …")
        try:
            with download_folder(self._folder) as folder:
                self._download_into(arguments, folder)
        except Exception as error:  # a download may raise any exception
            reason = format_reason(error.__cause__ or error)
            raise PairsLitError(
                f"data.source: {self.path} is not in {self._folder} and cannot be downloaded ({reason}). Set data.root "
                "to the folder that holds it."
            ) from error
        return self._call_factory({**arguments, "download": False})

    def _download_into(self, arguments: Mapping[str, Any], folder: Path) -> None:
        """Download into a temporary folder, and move files that are still missing to the dataset's own folder."""
        try:
            self._call_factory({**arguments, "download": False})
        except PairsLitError:
            pass
        else:  # another process has downloaded the files meanwhile
            return
        self._call_factory({**arguments, **({"root": str(folder)} if "root" in arguments else {}), "download": True})
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            target = self._folder / file.relative_to(folder)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                replace_file(file, target)


def describe_error(error: BaseException) -> str:
    """Return the message of an error, with file and line if it was raised in custom code."""
    location = locate_user_error(error)
    return f"{format_reason(error)} ({location})" if location else format_reason(error)


def _is_missing_files_error(error: BaseException | None) -> bool:
    """Return whether a dataset could not be built because its files are missing, so that a download may help.

    Damaged files are not replaced by a download; they are reported.
    """
    is_lookup = isinstance(error, RuntimeError) and "not found" in str(error)
    return isinstance(error, FileNotFoundError | HTTPException) or is_lookup


def _list_parameters(factory: Callable[..., Any]) -> tuple[list[str], bool]:
    """Return the names of a factory's arguments, and whether it accepts any other names.

    A constructor with ``**kwargs`` is assumed to pass them to its base class, so the arguments of that count, too.
    """
    classes = factory.__mro__[:-1] if inspect.isclass(factory) else ()
    functions = [vars(base)["__init__"] for base in classes if "__init__" in vars(base)] if classes else [factory]
    names: dict[str, None] = {}
    for function in functions:
        try:
            parameters = list(inspect.signature(function).parameters.values())[1 if classes else 0 :]  # without self
        except (TypeError, ValueError):  # functions written in C have no signature
            return list(names), True
        names |= {
            parameter.name: None
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return list(names), False
    return list(names), bool(functions)
