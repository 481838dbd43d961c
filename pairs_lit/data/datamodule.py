"""Lightning data module with the pairs of all rounds."""

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
from pairs_lit.data.gpu_store import move_to_gpu
from pairs_lit.data.labelled_images import Source
from pairs_lit.data.loaders import AllPairsLoader, PredictLoader, StackBatch, StackLoader, bound_batch_size
from pairs_lit.data.pair_store import SPLITS, DataSettings, Normalise, PairStore, Split, check_image_size
from pairs_lit.data.pairs import Swap
from pairs_lit.data.sources import check_source, get_named_source_size, is_named_source, load_source
from pairs_lit.errors import PairsLitError, check_choice, check_positive
from pairs_lit.relation import NUM_DIGITS, Relation
from pairs_lit.rounds import Rounds
from pairs_lit.runs.run_metadata import DETERMINISTIC_KEY
from pairs_lit.system.console import print_notice
from pairs_lit.system.paths import expand_user_path
from pairs_lit.text import format_count

MAX_RESIZE = 1024
"""The largest height and width to which images can be resized."""

MAX_PAIRS = 10**8
"""The largest number of pairs over all rounds and splits; they take about 4 GB."""

AllPairsSplit = Literal["val", "test"]
"""A split of which all ordered pairs can be evaluated."""


def get_default_root() -> str:
    """Return the default folder of the data: the environment variable PAIRS_LIT_DATA, else ``data``."""
    return os.environ.get("PAIRS_LIT_DATA", "data")


class PairDataModule(LightningDataModule):
    """Pairs of handwritten digits or other images for all rounds; the pairs of a round depend only on its seed.

    Training pairs are drawn as in the course's own code: the images are permuted and paired in order, so that no image
    is drawn twice. Validation pairs come from training images that no training pair of the round uses. Test pairs come
    from the test images, which are only evaluated.

    Args:
        seeds: The seeds of the rounds (on the command line, they follow from ``rounds``).
        stack_size: Rounds per stack; null means all. In a fit, the module's stacks are used.
        source: ``mnist``; ``digits``, scikit-learn's bundled digits; or ``auto``, which is MNIST if it is present or
            can be downloaded, else the bundled digits with a loud warning. Also the class path of a dataset of labelled
            images, from torchvision or custom: ``torchvision.datasets.FashionMNIST``, with arguments
            ``{class_path: torchvision.datasets.EMNIST, init_args: {split: digits}}`` (on the command line
            ``--data.source torchvision.datasets.EMNIST --data.source.split digits``), or
            ``torchvision.datasets.ImageFolder``, a folder of images with a sub-folder for each class.
        root: The folder that holds ``MNIST/raw`` or into which MNIST is downloaded, or the folder of the dataset's
            files (its argument ``root``). null means the environment variable PAIRS_LIT_DATA if set, else ``data``.
        allow_unverified: Accept files in MNIST's format whose hashes are not MNIST's; every table then names the source
            ``mnist (unverified)``. Only for ``mnist`` and ``auto``.
        relation: The target is 1 if the first digit is le (≤), lt (<), ge (≥) or gt (>) the second. For other images,
            the numbers of their classes are compared: classes are sorted by name (folders) or label and numbered from
            0, see ``class_names``.
        train_pairs: Training pairs per round, before swapped pairs are added.
        val_pairs: Validation pairs per round.
        test_pairs: Test pairs per round.
        batch_size: Training pairs per batch.
        eval_batch_size: Pairs per batch in evaluation; it affects metrics only by float rounding. Of images larger than
            28×28, a batch has fewer pairs, so that it has no more pixels.
        image_size: Height and width of the network's input. Images are average-pooled to this size, so it must divide
            their size: 1, 2, 4, 7, 14 or 28 for the digits of 28 pixels.
        swap: ``relabel`` adds every training pair with its images swapped and the target recomputed from the classes;
            ``flip`` adds it with the target flipped, which is wrong for equal digits and exists only to reproduce
            gardoni's report; ``none`` adds nothing.
        normalise: ``raw`` keeps grey values 0 … 255; ``unit`` divides by 255; ``standard`` subtracts the mean and
            divides by the standard deviation of the round's training images, in all splits.
        reuse: Draw images more than once, in further permutations, if a source has too few; false raises an error
            instead.
        resize: Resize all images to this height and width first (bilinear, with antialiasing); null keeps their size,
            so they must be square and of one size.
        class_names: The names of all classes in the order in which the relation compares them, for instance
            ``[zero, one, two]``: those of the sub-folders of a folder of images, or the dataset's own class names. If a
            dataset has no names, they name its labels in ascending order. null sorts names that are numbers by value,
            other folders alphabetically, and other datasets by label.
        transpose: Exchange rows and columns of all images, for datasets that store them transposed; torchvision's
            EMNIST is always read upright.
        augment: Change training images at random, differently in each epoch and depending on the round's seed; null
            leaves them unchanged. Evaluation never uses changed images.
        watch_test: Evaluate the test pairs after every epoch of a fit (true); only once after the last epoch, so that
            no test result is visible earlier (end); or not during a fit, like the search of a sweep (false).
        all_pairs: ``val``, ``test`` or both: at the end of a fit, and in ``validate`` and ``test``, also evaluate the
            split on all ordered pairs of two different images. The result is exact if predictions follow from digit
            probabilities; otherwise it uses 200,000 of these pairs, the same for all rounds.

    Raises:
        PairsLitError: If a count is below 1, or a value is not allowed.
    """

    def __init__(  # one argument per option data.x; those of a nested dataclass would be data.part.x
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
        all_pairs: Sequence[AllPairsSplit] = (),
    ) -> None:
        super().__init__()
        self._requested_settings = DataSettings(
            source, relation, train_pairs, val_pairs, test_pairs, image_size, swap, normalise, reuse, resize
        )
        _check_sizes(self._requested_settings, len(seeds), batch_size=batch_size, eval_batch_size=eval_batch_size)
        _check_source(self._requested_settings, root, class_names)
        check_choice("data.relation", Relation, relation)
        check_choice("data.swap", Swap, swap)
        check_choice("data.normalise", Normalise, normalise)
        _check_evaluation_options(watch_test, all_pairs)
        self.rounds = Rounds([*seeds], stack_size or len(seeds))
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.image_size, self.normalise, self.augment = image_size, normalise, augment
        self.fit_splits: tuple[Split, ...] = SPLITS if watch_test is True else ("train", "val")
        self.final_splits: tuple[Split, ...] = ("train", "test") if watch_test == "end" else ("train",)
        in_fit: tuple[AllPairsSplit, ...] = ("val", "test") if watch_test else ("val",)
        evaluated: dict[str, tuple[AllPairsSplit, ...]] = {"fit": in_fit, "validate": ("val",), "test": ("test",)}
        self.whole_splits = {
            stage: [split for split in splits if split in all_pairs] for stage, splits in evaluated.items()
        }
        self._root = expand_user_path(get_default_root() if root is None else root)
        self._gpu_store: PairStore | None = None
        self._allow_unverified, self._class_names, self._transpose = allow_unverified, class_names, transpose

    @cached_property
    def bank(self) -> PairStore:
        """The images and the pairs of all rounds, loaded and drawn at the first access."""
        if self._should_warp_originals and self._source.train.size == self.image_size:
            raise PairsLitError(
                "data.augment.originals must be false if data.image_size is the size of the images, got true and "
                f"{self.image_size} for both sizes. Remove data.augment.originals."
            )
        bank = PairStore(
            self._source, self.rounds.seeds, self._requested_settings, originals=self._should_warp_originals
        )
        self.classes = bank.settings.classes
        del self._source  # frees memory; the store holds all that is needed
        if bank.scarce_splits:
            counts = ", ".join(bank.scarce_splits)
            print_notice(
                f"{bank.settings.source} has too few images, so some are drawn more than once (pairs: {counts})."
            )
        return bank

    @property
    def _should_warp_originals(self) -> bool:
        return self.augment is not None and self.augment.originals

    @cached_property
    def _source(self) -> Source:
        """The labelled images, until the store holds them."""
        source = load_source(
            self._requested_settings.source,
            self._root,
            allow_unverified=self._allow_unverified,
            resize=self._requested_settings.resize,
            class_names=self._class_names,
            transpose=self._transpose,
        )
        check_image_size(self.image_size, source.train.size)
        return source

    @cached_property
    def classes(self) -> int:
        """K, the number of classes; for a dataset given by class path, this loads the dataset."""
        return NUM_DIGITS if is_named_source(self._requested_settings.source) else self._source.train.classes

    @property
    def settings(self) -> DataSettings:
        """The settings that determine the pairs, including the name and properties of the loaded source."""
        return self.bank.settings

    @property
    def reading(self) -> dict[str, bool]:
        """How the images were read; a checkpoint records unusual values."""
        return {"transpose": self._transpose, DETERMINISTIC_KEY: self.bank.deterministic}

    @property
    def steps(self) -> int:
        """The number of training batches of a round in an epoch."""
        return ceil(self.bank.pairs["train"].target.shape[1] / self.batch_size)

    def setup(self, stage: str) -> None:
        """Load the source and draw the pairs of all rounds, unless this has been done already."""
        _ = self.bank

    @property
    def _store(self) -> PairStore:
        """The store that batches are gathered from: on the trainer's GPU if it fits there, otherwise on the CPU."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type == "cpu":
            return self.bank
        if self._gpu_store is None or self._gpu_store.images.device != device:
            self._gpu_store = move_to_gpu(self.bank, device, augments=self.augment is not None)
        return self._gpu_store

    def teardown(self, stage: str) -> None:
        """Release the GPU's memory."""
        self._gpu_store = None

    def loader(self, *splits: Split) -> StackLoader:
        """Return a loader of some splits for evaluation, without shuffling, for this worker's stacks."""
        return StackLoader(self._store, splits, self._worker_stacks, self._bounded_batch_size)

    def all_pairs_loader(self, split: Split, places: Tensor) -> AllPairsLoader:
        """Return a loader of pairs (P, 2) of evaluation images for this worker's stacks."""
        return AllPairsLoader(self._store, (split,), self._worker_stacks, self._bounded_batch_size, positions=places)

    @property
    def _bounded_batch_size(self) -> int:
        """The number of pairs that are evaluated at a time."""
        return bound_batch_size(self.eval_batch_size, self.image_size)

    @property
    def _worker_stacks(self) -> Mapping[int, slice]:
        """The stacks of this worker."""
        worker = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return self.rounds.get_worker_stacks(*worker)

    def transfer_batch_to_device(self, batch: StackBatch, device: torch.device, dataloader_idx: int) -> StackBatch:
        """Return a batch on a device; this is faster than Lightning's search for tensors in every batch."""
        return batch.to_device(device)

    def train_dataloader(self) -> StackLoader:
        """Return a loader of training batches, shuffled by each round's seed and the epoch."""
        change = None if self.augment is None else Augmenter(self.augment, self.image_size, self.bank.max_grey)
        return StackLoader(self._store, ("train",), self._worker_stacks, self.batch_size, self._get_epoch, change)

    def _get_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def val_dataloader(self) -> StackLoader:
        """Return a loader of validation pairs and, in a fit, test pairs, unless ``watch_test`` excludes them.

        Test results are only recorded; nothing is selected by them.
        """
        is_fit = self.trainer is not None and self.trainer.state.fn == "fit"
        return self.loader(*self.fit_splits[1:]) if is_fit else self.loader("val")

    def test_dataloader(self) -> StackLoader:
        """Return a loader of each round's test pairs."""
        return self.loader("test")

    def predict_dataloader(self) -> PredictLoader:
        """Return a loader of the first round's test pairs for every round."""
        return PredictLoader(self._store, ("test",), self._worker_stacks, self._bounded_batch_size)


def get_data_module(trainer: Trainer) -> PairDataModule:
    """Return the data module of a trainer."""
    return cast(PairDataModule, cast(Any, trainer).datamodule)


def _check_sizes(settings: DataSettings, rounds: int, **batch_sizes: int) -> None:
    """Raise PairsLitError if a count or size is below 1, or there are too many pairs in all."""
    counts = {f"{split}_pairs": count for split, count in settings.pair_counts.items()}
    for name, value in (counts | batch_sizes | {"image_size": settings.image_size}).items():
        check_positive(f"data.{name}", value)
    if rounds * sum(counts.values()) > MAX_PAIRS:
        options = ", ".join(f"data.{name} {count}" for name, count in counts.items())
        raise PairsLitError(
            f"all rounds together must have at most {MAX_PAIRS} pairs, got {options} for "
            f"{format_count(rounds, 'round')}. "
            "Reduce them or rounds.count."
        )


def _check_source(settings: DataSettings, root: str | None, class_names: Sequence[str | int | float] | None) -> None:
    """Raise PairsLitError if options of the source are wrong, as far as they can be checked before it is loaded."""
    source, resize = settings.source, settings.resize
    check_source(source)
    if root == "" and not is_named_source(source):
        raise PairsLitError("data.root must be the folder that holds the data, got an empty string.")
    if resize is not None:
        check_positive("data.resize", resize)
        if resize > MAX_RESIZE:
            raise PairsLitError(f"data.resize must be {MAX_RESIZE} or less, got {resize}.")
    if is_named_source(source):  # the image size of other sources is unknown until they are loaded
        check_image_size(settings.image_size, get_named_source_size(resize))
    if class_names is not None:
        check_names(class_names)
        if is_named_source(source) and len(class_names) != NUM_DIGITS:
            raise PairsLitError(
                f"data.class_names must name the {NUM_DIGITS} digits of {source}, got {len(class_names)} names. "
                "Name all."
            )


def _check_evaluation_options(watch_test: object, all_pairs: Sequence[AllPairsSplit]) -> None:
    """Raise PairsLitError if ``watch_test`` or ``all_pairs`` has a value that is not allowed."""
    if watch_test not in (True, False, "end"):
        raise PairsLitError(f"data.watch_test must be true, end or false, got {watch_test!r}.")
    if isinstance(all_pairs, str):
        raise PairsLitError(f"data.all_pairs must be a list such as [test] or [val, test], got {all_pairs!r}.")
    check_choice("data.all_pairs", AllPairsSplit, *all_pairs)
