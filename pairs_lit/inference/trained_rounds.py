"""The trained rounds of a run: their plain networks, and what they say of images."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.image_format import ImageFormat
from pairs_lit.data.loaders import StackBatch
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.preprocessing import Preprocessing
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.seeds import range_of
from pairs_lit.stacking.parameter_slices import plain_state
from pairs_lit.training.module import PairModule

_AT_A_TIME = 500


@dataclass(frozen=True)
class Answers:
    """What R rounds say of P pairs.

    Attributes:
        probability: P(relation), (R, P) float32.
        digits: The probabilities of each image's classes, (R, P, 2, K); None: the network does not read digits.
    """

    probability: Tensor
    digits: Tensor | None


class Trained:
    """The trained rounds of a run.

    Args:
        module: With the weights of the run's checkpoint.
        data: The run's data; loaded only where the preparation of images follows from them.
        image_format: What the training images look like, or None if the checkpoint does not record it.
    """

    def __init__(self, module: PairModule, data: PairDataModule, image_format: ImageFormat | None = None) -> None:
        self.module = module.eval()
        self.data = data
        self.image_format = image_format

    @property
    def note(self) -> str:
        """What everything must say that the networks give if their code has changed since the fit; else empty."""
        return self.module.code.note

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds of the rounds."""
        return self.module.rounds.seeds

    def network(self, seed: int) -> RoundNetwork:
        """Return the plain network of one round, in evaluation mode; of several members or views, the mean of theirs.

        Raises:
            PairsLitError: The run has no such round.
        """
        place = self._place(seed)
        seeds = self.module.architectures[place].member_seeds(seed)
        members = [self._member(place, member, own_seed) for member, own_seed in enumerate(seeds)]
        return RoundNetwork(members, self.module.architectures[place].relation, deepcopy(self.module.views)).eval()

    def _member(self, place: int, member: int, seed: int) -> PairNetwork:
        """Return the plain network of one member of one round."""
        architecture = self.module.architectures[place]
        network = architecture.build(seed)
        number, place = self.module.rounds.find(place)
        own = place * architecture.members + member
        for name in network.parts(architecture.pair_shape):
            part = network.get_submodule(name)
            part.load_state_dict(plain_state(self.module.stacks[number].get_submodule(name), part, own))
        return network

    def preprocessing(self, seed: int) -> Preprocessing:
        """Return how a round's images are prepared.

        Raises:
            PairsLitError: The run has no such round; or it follows from the training images, and these are gone.
        """
        place, kind = self._place(seed), self.data.normalise
        if kind != "standard":
            return Preprocessing(self.data.image_size, 255.0 if kind == "unit" else 1.0, 0.0, 1.0)
        scale = self.data.bank.scale
        assert scale is not None
        mean, std = (float(values[place]) for values in scale)
        return Preprocessing(self.data.image_size, 1.0, mean, std)

    def check_seed(self, seed: int) -> None:
        """Refuse a seed of which the run has no round."""
        if seed not in self.seeds:
            raise PairsLitError(f"there is no round of seed {seed} in this run: it has {range_of(self.seeds)}.")

    def _place(self, seed: int) -> int:
        self.check_seed(seed)
        return self.seeds.index(seed)

    @torch.inference_mode()
    def answers(self, images: Tensor) -> Answers:
        """Return what all rounds say of the same pairs.

        Args:
            images: (P, 2, S, S), grey, 0 … 255, in the format of the training images; S a multiple of the run's
                ``data.image_size``.
        """
        parts = [self._answered(part) for part in torch.split(images, _AT_A_TIME)]
        digits = [part.digits for part in parts if part.digits is not None]
        return Answers(torch.cat([part.probability for part in parts], 1), torch.cat(digits, 1) if digits else None)

    def _answered(self, images: Tensor) -> Answers:
        found = []
        for stack, rounds in enumerate(self.module.rounds.stacks):
            seen = torch.stack([self.preprocessing(seed)(images) for seed in self.seeds[rounds]])
            found.append(self.module.compared(StackBatch.unlabelled(stack, seen)))
        probability = torch.cat([answer.probability() for answer in found])
        reads = self.module.trains_digits  # else its digit logits mean nothing
        logits = [answer.digit_logits for answer in found if reads and answer.digit_logits is not None]
        return Answers(probability, torch.cat(logits).softmax(-1) if logits else None)
