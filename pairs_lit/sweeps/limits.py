"""What the rounds of a sweep cannot show, known before anything is trained."""

from pairs_lit.analysis.power import describe_limit
from pairs_lit.sweeps.spec import Spec

DATA_OPTIONS = frozenset(
    f"data.{name}"
    for name in (
        *("source", "root", "relation", "train_pairs", "val_pairs", "test_pairs"),
        *("image_size", "resize", "swap", "normalise", "reuse"),
    )
)
"""Options whose values change what a seed stands for, so that trials are not paired."""


def describe_limits(spec: Spec) -> list[str]:
    """Return why the rounds of a sweep, or of its confirmation, cannot show any difference; empty where they can."""
    is_paired = not any(option in DATA_OPTIONS for option in spec.space)
    limit = describe_limit(spec.rounds.count, spec.rounds.count, spec.count - 1, is_paired=is_paired)
    limits = [f"no trial can differ significantly from the best one: {limit} (rounds.count)."] if limit else []
    if spec.confirm is not None:
        limit = describe_limit(spec.confirm.count, spec.confirm.count, 1, is_paired=is_paired)
        limits += [f"fresh seeds cannot confirm a difference: {limit} (confirm.count)."] if limit else []
    return limits
