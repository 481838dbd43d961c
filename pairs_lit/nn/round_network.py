"""Network of one finished round, which averages over its ensemble members and test-time augmentation."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pairs_lit.nn.ensemble import average_outputs
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.pair_output import Output, PairOutput, interpret_output
from pairs_lit.nn.test_time_augmentation import Views
from pairs_lit.relation import Relation


class RoundNetwork(nn.Module):
    """Network of a round: preprocessed pairs (N, 2, H, W) → P(relation), (N,), or (P(relation), digit logits).

    :class:`~pairs_lit.inference.preprocessing.Preprocessing` prepares the pairs. The digit logits are (N, 2, K). With
    several ensemble members or views, :func:`~pairs_lit.nn.ensemble.average_outputs` averages the predictions, and the
    digit logits are the logarithms of mean probabilities.

    Args:
        members: Pair networks of the round's ensemble members, or the round's only network.
        relation: Relation whose probability is returned.
        views: Test-time augmentation, or None without it.
    """

    def __init__(self, members: Sequence[PairNetwork], relation: Relation, views: Views | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.views, self._relation = views, relation

    def forward(self, pairs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return P(relation), (N, 2, H, W) → (N,); with a read-out, return (P(relation), digit logits (N, 2, K))."""
        prediction = self._predict(pairs)
        if prediction.digit_logits is None:
            return prediction.get_probability()
        return prediction.get_probability(), prediction.digit_logits

    def _predict(self, pairs: Tensor) -> PairOutput:
        """Return the mean prediction over members and views."""
        count, views = (1, pairs) if self.views is None else (self.views.count, self.views(pairs).flatten(0, 1))
        networks = [cast(PairNetwork, member) for member in self.members]
        if len(networks) == 1 and self.views is None:
            return self._interpret(networks[0], networks[0](views))
        outputs = [_split_by_view(network(views), count) for network in networks]
        predictions = self._interpret(networks[0], _join_members(outputs))
        mean = average_outputs([predictions], len(networks) * count, self._relation)
        logits = None if mean.digit_logits is None else mean.digit_logits[0]
        return PairOutput(mean.output[0], mean.kind, logits, is_averaged=True)

    def _interpret(self, network: PairNetwork, output: Output) -> PairOutput:
        return interpret_output(output, self._relation, is_digit_head=network.is_digit_head)


def _split_by_view(output: Output, views: int) -> list[Tensor]:
    """Return the output and any digit logits with a dimension for views: (V·N, ...) → (V, N, ...)."""
    parts = [output] if isinstance(output, Tensor) else list(output)
    return [part.view(views, -1, *part.shape[1:]) for part in parts]


def _join_members(outputs: Sequence[Sequence[Tensor]]) -> Output:
    """Concatenate the outputs of M networks on V views, (V, N, ...) each, to (M·V, N, ...)."""
    parts = [torch.cat(part) for part in zip(*outputs, strict=True)]
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])
