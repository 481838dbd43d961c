"""Check before training whether a sweep has enough rounds for significant differences."""

from pairs_lit.analysis.power import describe_limit
from pairs_lit.sweeps.spec import Spec

DATA_OPTIONS = frozenset(
    f"data.{name}"
    for name in (
        *("source", "root", "relation", "train_pairs", "val_pairs", "test_pairs"),
        *("image_size", "resize", "swap", "normalise", "reuse"),
    )
)
"""Options that change which pairs a seed selects, so that trials with different values cannot be paired by seed."""


def describe_limits(spec: Spec) -> list[str]:
    """Return why a sweep or its confirmation has too few rounds for a significant difference, or no texts."""
    is_paired = not any(option in DATA_OPTIONS for option in spec.space)
    limit = describe_limit(spec.rounds.count, spec.rounds.count, spec.num_trials - 1, is_paired=is_paired)
    limits = [f"no trial can differ significantly from the best one: {limit} (rounds.count)."] if limit else []
    if spec.confirm is not None:
        limit = describe_limit(spec.confirm.count, spec.confirm.count, 1, is_paired=is_paired)
        limits += [f"the confirmation cannot show a significant difference: {limit} (confirm.count)."] if limit else []
    return limits
