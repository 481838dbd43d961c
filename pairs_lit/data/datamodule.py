"""The data module: the pairs of all rounds, as Lightning asks for them."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import ceil
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from pairs_lit.data.augment import Augmentation, Augmenter
from pairs_lit.data.class_names import check_names
from pairs_lit.data.labelled_images import Source
from pairs_lit.data.loaders import PlacesLoader, PredictLoader, StackBatch, StackLoader
from pairs_lit.data.pair_store import SPLITS, DataSettings, Normalise, PairBank, Split, check_image_size
from pairs_lit.data.pairs import Swap
from pairs_lit.data.sources import check_source, is_named, known_size, load_source
from pairs_lit.errors import PairsLitError, check_choice, check_positive
from pairs_lit.relation import DIGITS, Relation
from pairs_lit.rounds import Rounds
from pairs_lit.runs.run_metadata import DETERMINISTIC
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.text import counted

MOST_SIZE = 1024
"""The largest height and width that images can be given."""

MOST_PAIRS = 10**8
"""The most pairs, over all rounds and splits; this many take about 4 GB."""

Whole = Literal["val", "test"]
"""A split whose pairs can all be measured."""


def default_root() -> str:
    """Return the folder that holds MNIST, or another source: the environment variable PAIRS_LIT_DATA, else ``data``."""
    return os.environ.get("PAIRS_LIT_DATA", "data")


class PairDataModule(LightningDataModule):
    """Pairs of handwritten digits, or of other images, for all rounds; each round's pairs depend on its seed alone.

    Training pairs are drawn as the course does (a permutation of the images, taken two by two, no image twice).
    Validation pairs come from training digits that no training pair of the round uses, test pairs from the test
    digits, which are only evaluated.

    Args:
        seeds: The seeds of the rounds (on the command line: from ``rounds``).
        stack_size: Rounds in a stack; null: all. A fit has the stacks of its module.
        source: ``mnist``; ``digits``, scikit-learn's bundled digits; ``auto``: MNIST where it is present or can be
            downloaded, else the bundled digits with a loud warning. Or the class path of a data set of labelled
            images, of torchvision's or your own: ``torchvision.datasets.FashionMNIST``, with arguments
            ``{class_path: torchvision.datasets.EMNIST, init_args: {split: digits}}`` (on the command line
            ``--data.source torchvision.datasets.EMNIST --data.source.split digits``), or
            ``torchvision.datasets.ImageFolder``, a folder of pictures with a sub-folder for each class.
        root: The folder that holds ``MNIST/raw``, or into which it is downloaded, or where the data set's files lie
            (its argument ``root``); null: the one that the environment variable PAIRS_LIT_DATA names, else ``data``.
        allow_unverified: Accept files in MNIST's format whose hashes are not MNIST's; every table then says so. Only
            for ``mnist`` and ``auto``.
        relation: The target is 1 where the first digit is le (≤), lt (<), ge (≥) or gt (>) the second; of other
            images, the number of the class: classes are sorted by name (folders) or label, and numbered from 0, see
            ``class_names``.
        train_pairs: Training pairs per round, before swapping.
        val_pairs: Validation pairs per round.
        test_pairs: Test pairs per round.
        batch_size: Training pairs per batch.
        eval_batch_size: Pairs per batch in evaluation; changes figures only by float rounding.
        image_size: The height and width of what the network sees; the images are average-pooled down to it, so it
            divides their own: 1, 2, 4, 7, 14 or 28 of the digits' 28.
        swap: ``relabel`` adds every training pair swapped, its target recomputed from the classes; ``flip`` adds it
            with the target flipped, which is wrong for equal digits and exists only to reproduce gardoni's report.
        normalise: ``raw`` 0 … 255; ``unit`` divides by 255; ``standard`` uses mean and std of the round's own
            training images for all splits.
        reuse: Draw images more than once, in further permutations, if a source has too few; false: refuse instead.
        resize: Resize all images to this height and width first (bilinear, with antialias); null: leave them as they
            are, then they must be square and of one size.
        class_names: The names of all classes in the order in which the relation compares them, for instance
            ``[zero, one, two]``: the sub-folders of a folder of images, or the names that a dataset gives its classes.
            Where a dataset has no names, they become the names of its labels, in ascending order. null: names that are
            numbers are sorted by value, other folders alphabetically, and other datasets by label.
        transpose: Exchange rows and columns of all images, for datasets that store them so; torchvision's EMNIST is
            read upright anyway.
        augment: Change training images at random, anew in each epoch by each round's own seed; null: leave them as
            they are. Evaluation never sees changed images.
        watch_test: Measure the test pairs after every epoch of a fit, too; end: only once, after the last epoch, so
            that nobody sees a test figure before; false: a fit leaves them alone, as the search of a sweep does.
        all_pairs: ``val``, ``test`` or both: at the end of a fit, and in ``validate`` and ``test``, measure the split
            over all ordered pairs of two different of its images, too, not only over the drawn pairs: exactly where
            the answer follows from digit probabilities, else over 200,000 of these pairs, the same for all rounds.

    Raises:
        PairsLitError: A count is below 1, or a value is not allowed.
    """

    def __init__(  # an argument for each option data.x: those of a nested dataclass would be data.part.x
        self,
        *,
        seeds: list[int],
        stack_size: int | None = None,
        source: str = "auto",
        root: str | None = None,
        allow_unverified: bool = False,
        relation: Relation = "le",
        train_pairs: int = 1000,
        val_pairs: int = 1000,
        test_pairs: int = 1000,
        batch_size: int = 100,
        eval_batch_size: int = 200,
        image_size: int = 14,
        swap: Swap = "none",
        normalise: Normalise = "raw",
        reuse: bool = True,
        resize: int | None = None,
        class_names: list[str | int | float] | None = None,
        transpose: bool = False,
        augment: Augmentation | None = None,
        watch_test: bool | Literal["end"] = True,
        all_pairs: Sequence[Whole] = (),
    ) -> None:
        super().__init__()
        self._wanted = DataSettings(
            source, relation, train_pairs, val_pairs, test_pairs, image_size, swap, normalise, reuse, resize
        )
        _check_sizes(self._wanted, len(seeds), batch_size=batch_size, eval_batch_size=eval_batch_size)
        _check_source(self._wanted, root, class_names)
        check_choice("data.relation", Relation, relation)
        check_choice("data.swap", Swap, swap)
        check_choice("data.normalise", Normalise, normalise)
        _check_measured(watch_test, all_pairs)
        self.rounds = Rounds([*seeds], stack_size or len(seeds))
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.image_size, self.normalise, self.augment = image_size, normalise, augment
        self.fit_splits: tuple[Split, ...] = SPLITS if watch_test is True else ("train", "val")
        self.final_splits: tuple[Split, ...] = ("train", "test") if watch_test == "end" else ("train",)
        fitting: tuple[Whole, ...] = ("val", "test") if watch_test else ("val",)
        measured: dict[str, tuple[Whole, ...]] = {"fit": fitting, "validate": ("val",), "test": ("test",)}
        self.whole_splits = {
            stage: [each for each in splits if each in all_pairs] for stage, splits in measured.items()
        }
        self._root = user_path(default_root() if root is None else root)
        self._allow_unverified, self._class_names, self._transpose = allow_unverified, class_names, transpose

    @cached_property
    def bank(self) -> PairBank:
        """The images and the pairs of all rounds, loaded and drawn when first asked for."""
        if self._warps_originals and self._found.train.size == self.image_size:  # they tell no more than what is seen
            raise PairsLitError(
                f"data.augment.originals is true, but data.image_size is {self.image_size}, the images' own size: "
                "leave originals out."
            )
        bank = PairBank(self._found, self.rounds.seeds, self._wanted, originals=self._warps_originals)
        self.classes = bank.settings.classes
        del self._found  # it takes memory, and the bank has all of it
        if bank.scarce:
            shown = ", ".join(bank.scarce)
            notice(f"{bank.settings.source} has too few images, so some are drawn more than once (pairs: {shown}).")
        return bank

    @property
    def _warps_originals(self) -> bool:
        return self.augment is not None and self.augment.originals

    @cached_property
    def _found(self) -> Source:
        """The labelled images, until the bank holds them."""
        source = load_source(
            self._wanted.source,
            self._root,
            allow_unverified=self._allow_unverified,
            resize=self._wanted.resize,
            class_names=self._class_names,
            transpose=self._transpose,
        )
        check_image_size(self.image_size, source.train.size)
        return source

    @cached_property
    def classes(self) -> int:
        """K, the number of classes; for a data set named by its class, it is loaded for that."""
        return DIGITS if is_named(self._wanted.source) else self._found.train.classes

    @property
    def settings(self) -> DataSettings:
        """The settings of what was drawn, with the source that was found."""
        return self.bank.settings

    @property
    def reading(self) -> dict[str, bool]:
        """How the images were read, which a checkpoint records where it is unusual."""
        return {"transpose": self._transpose, DETERMINISTIC: self.bank.deterministic}

    @property
    def steps(self) -> int:
        """How many training batches a round has in an epoch."""
        return ceil(self.bank.pairs["train"].target.shape[1] / self.batch_size)

    def setup(self, stage: str) -> None:
        """Load the source and draw the pairs of all rounds, once."""
        _ = self.bank

    def loader(self, *splits: Split) -> StackLoader:
        """Return the batches of some splits of this worker's stacks, in their own order, for evaluation."""
        return StackLoader(self.bank, splits, self._own_stacks, self.eval_batch_size)

    def places_loader(self, split: Split, places: Tensor) -> PlacesLoader:
        """Return batches of pairs (P, 2) of the images of which all pairs are measured, of this worker's stacks."""
        return PlacesLoader(self.bank, (split,), self._own_stacks, self.eval_batch_size, places=places)

    @property
    def _own_stacks(self) -> Mapping[int, slice]:
        """The stacks of this worker."""
        worker = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return self.rounds.of_worker(*worker)

    def transfer_batch_to_device(self, batch: StackBatch, device: torch.device, dataloader_idx: int) -> StackBatch:
        """Move a batch's tensors; Lightning's own way searches every batch for them."""
        return batch.on(device)

    def train_dataloader(self) -> StackLoader:
        """Return the training batches, shuffled anew in each epoch by each round's own seed."""
        change = None if self.augment is None else Augmenter(self.augment, self.image_size, self.bank.top)
        return StackLoader(self.bank, ("train",), self._own_stacks, self.batch_size, self._current_epoch, change)

    def _current_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def val_dataloader(self) -> StackLoader:
        """Return validation pairs and, while fitting, test pairs: both are plotted, nothing is selected on test."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return self.loader(*self.fit_splits[1:]) if fitting else self.loader("val")

    def test_dataloader(self) -> StackLoader:
        """Return each round's own test pairs."""
        return self.loader("test")

    def predict_dataloader(self) -> PredictLoader:
        """Return the test pairs of the first seed, for every round."""
        return PredictLoader(self.bank, ("test",), self._own_stacks, self.eval_batch_size)


def data_of(trainer: Trainer) -> PairDataModule:
    """Return the data module of a trainer."""
    return cast(PairDataModule, cast(Any, trainer).datamodule)


def _check_sizes(wanted: DataSettings, rounds: int, **batch_sizes: int) -> None:
    counts = {f"{split}_pairs": count for split, count in wanted.pairs.items()}
    for name, value in (counts | batch_sizes | {"image_size": wanted.image_size}).items():
        check_positive(f"data.{name}", value)
    if rounds * sum(counts.values()) > MOST_PAIRS:
        shown = ", ".join(f"data.{name} {count}" for name, count in counts.items())
        raise PairsLitError(
            f"{shown} for {counted(rounds, 'round')} (rounds.count): at most {MOST_PAIRS} pairs in all."
        )


def _check_source(wanted: DataSettings, root: str | None, class_names: Sequence[str | int | float] | None) -> None:
    source, resize = wanted.source, wanted.resize
    check_source(source)
    if root == "" and not is_named(source):
        raise PairsLitError("data.root is empty: name the folder that holds the data.")
    if resize is not None:
        check_positive("data.resize", resize)
        if resize > MOST_SIZE:
            raise PairsLitError(f"data.resize is {resize}: it must be {MOST_SIZE} or less.")
    if is_named(source):  # the size of others is known once they are loaded
        check_image_size(wanted.image_size, known_size(resize))
    if class_names is not None:
        check_names(class_names)
        if is_named(source) and len(class_names) != DIGITS:
            raise PairsLitError(
                f"data.class_names must name the {DIGITS} digits of {source}, got {len(class_names)} names. Name all."
            )


def _check_measured(watch_test: object, all_pairs: Sequence[Whole]) -> None:
    if watch_test not in (True, False, "end"):
        raise PairsLitError(f"data.watch_test is {watch_test!r}: it must be true, end or false.")
    if isinstance(all_pairs, str):
        raise PairsLitError(f"data.all_pairs is {all_pairs!r}: give a list, [test] or [val, test] for instance.")
    check_choice("data.all_pairs", Whole, *all_pairs)
