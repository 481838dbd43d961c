"""Trained rounds of a run: their single-round networks, and their predictions for images."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.image_format import ImageFormat
from pairs_lit.data.loaders import StackBatch, bound_batch_size
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.preprocessing import Preprocessing
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.seeds import format_seeds
from pairs_lit.stacking.parameter_slices import get_plain_state
from pairs_lit.system.deprecation import RenamedAttribute, renamed_names
from pairs_lit.training.module import PairModule

_PAIRS_PER_BATCH = 500


@dataclass(frozen=True)
class Predictions:
    """Predictions of R rounds for P pairs.

    Attributes:
        probability: P(relation), (R, P) float32.
        digits: The class probabilities of each image, (R, P, 2, K), or None if the network does not classify digits.
    """

    probability: Tensor
    digits: Tensor | None


class TrainedRounds:
    """The trained rounds of a run.

    Args:
        module: The module with the weights of the run's checkpoint.
        data: The run's data, which are loaded only if preprocessing depends on them.
        image_format: The format of the training images, or None if the checkpoint does not record it.
    """

    answers = RenamedAttribute("predict")

    def __init__(self, module: PairModule, data: PairDataModule, image_format: ImageFormat | None = None) -> None:
        self.module = module.eval()
        self.data = data
        self.image_format = image_format

    @property
    def note(self) -> str:
        """A note for all outputs if the code of the networks has changed since the fit, or an empty text."""
        return self.module.code.note

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds of the rounds."""
        return self.module.rounds.seeds

    def network(self, seed: int) -> RoundNetwork:
        """Return the single-round network of a round, in evaluation mode; it averages ensemble members and TTA views.

        Raises:
            PairsLitError: The run has no round of this seed.
        """
        place = self._find_index(seed)
        seeds = self.module.architectures[place].derive_member_seeds(seed)
        members = [self._build_member(place, member, member_seed) for member, member_seed in enumerate(seeds)]
        return RoundNetwork(members, self.module.architectures[place].relation, deepcopy(self.module.views)).eval()

    def _build_member(self, place: int, member: int, seed: int) -> PairNetwork:
        """Return the single network of one ensemble member of a round."""
        architecture = self.module.architectures[place]
        network = architecture.build(seed)
        number, place_in_stack = self.module.rounds.find_stack(place)
        index = place_in_stack * architecture.members + member
        for name in network.parts(architecture.pair_shape):
            part = network.get_submodule(name)
            part.load_state_dict(get_plain_state(self.module.stacks[number].get_submodule(name), part, index))
        return network

    def preprocessing(self, seed: int) -> Preprocessing:
        """Return how the images of a round are preprocessed.

        Raises:
            PairsLitError: The run has no round of this seed, or preprocessing depends on training images that are
                missing now.
        """
        place, kind = self._find_index(seed), self.data.normalise
        if kind != "standard":
            return Preprocessing(self.data.image_size, 255.0 if kind == "unit" else 1.0, 0.0, 1.0)
        scale = self.data.bank.scale
        assert scale is not None
        mean, std = (float(values[place]) for values in scale)
        return Preprocessing(self.data.image_size, 1.0, mean, std)

    def check_seed(self, seed: int) -> None:
        """Raise PairsLitError if the run has no round of this seed."""
        if seed not in self.seeds:
            raise PairsLitError(f"there is no round of seed {seed} in this run: it has {format_seeds(self.seeds)}.")

    def _find_index(self, seed: int) -> int:
        self.check_seed(seed)
        return self.seeds.index(seed)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Predictions:
        """Return the predictions of all rounds for the same pairs.

        Args:
            images: Grey images, (P, 2, S, S), 0 … 255, in the format of the training images; S a multiple of the run's
                ``data.image_size``.
        """
        batches = torch.split(images, bound_batch_size(_PAIRS_PER_BATCH, self.data.image_size))
        parts = [self._predict_part(batch) for batch in batches]
        digits = [part.digits for part in parts if part.digits is not None]
        return Predictions(torch.cat([part.probability for part in parts], 1), torch.cat(digits, 1) if digits else None)

    def _predict_part(self, images: Tensor) -> Predictions:
        outputs = []
        for stack, rounds in enumerate(self.module.rounds.stacks):
            inputs = torch.stack([self.preprocessing(seed)(images) for seed in self.seeds[rounds]])
            outputs.append(self.module.predict_batch(StackBatch.unlabelled(stack, inputs)))
        probability = torch.cat([output.get_probability() for output in outputs])
        has_digits = self.module.trains_digits  # untrained digit logits are meaningless
        logits = [output.digit_logits for output in outputs if has_digits and output.digit_logits is not None]
        return Predictions(probability, torch.cat(logits).softmax(-1) if logits else None)


__getattr__ = renamed_names(__name__, {"Answers": "Predictions", "Trained": "TrainedRounds"})
