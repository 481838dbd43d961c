"""Ranking and comparison of trials."""

from dataclasses import replace

import numpy as np
import pytest

from pairs_lit.analysis.comparison_tests import compare_rounds
from pairs_lit.runs.metrics import METRICS_BY_TAG
from pairs_lit.statistics import adjust_holm
from pairs_lit.sweeps.trial import compare_with_best, rank_trials
from tests.support.sweeps import build_trial


def test_trials_are_ranked_by_their_mean_and_failed_ones_come_last() -> None:
    trials = [
        build_trial(0, 0.5, 0.6),
        build_trial(1, 0.9, failed=(1,)),
        build_trial(2, 0.7, 0.8),
        build_trial(3, failed=(0, 1)),
    ]
    assert [each.number for each in rank_trials(trials, METRICS_BY_TAG["val/accuracy"])] == [2, 0, 1, 3]
    assert [each.number for each in rank_trials(trials, METRICS_BY_TAG["val/loss"])] == [0, 2, 1, 3]


def test_ties_with_the_best_use_paired_tests_with_holms_correction() -> None:
    rng = np.random.default_rng(0)
    best = rng.normal(0.9, 0.02, 12)
    others = [best - 0.0005 * rng.normal(1, 1, 12), best - rng.normal(0.02, 0.004, 12), best - rng.normal(0, 0.02, 12)]
    trials = [build_trial(0, *best), *(build_trial(number, *each) for number, each in enumerate(others, 1))]
    result = compare_with_best(trials[0], trials)
    by_hand = [compare_rounds(dict(enumerate(each)), dict(enumerate(best)), same_data=True) for each in others]
    corrected = adjust_holm([each.p for each in by_hand])
    for number, (difference, p) in enumerate(zip(by_hand, corrected, strict=True), 1):
        measured = result[number].difference
        assert measured.min_detectable_effect == pytest.approx(difference.min_detectable_effect)
        for name in ("estimate", "low", "high", "p"):
            assert getattr(measured, name) == pytest.approx(getattr(difference, name))
        assert result[number].p_holm == pytest.approx(p)
    assert result[2].sign
    assert not result[3].sign


SWEEPS = 2000


@pytest.mark.slow
def test_confirmed_difference_is_unbiased() -> None:
    """Of 100 sweeps over 20 identical configs, the interval of winner − baseline covers 0 in about 95."""
    rng = np.random.default_rng(7)
    covered, flattery = 0, []
    for _ in range(SWEEPS):
        pairs = rng.normal(0, 0.008, 10)  # the common effect of each seed
        trials = [build_trial(number, *(0.87 + pairs + rng.normal(0, 0.0083, 10))) for number in range(20)]
        flattery.append(rank_trials(trials, METRICS_BY_TAG["val/accuracy"])[0].summary.mean - 0.87 - pairs.mean())
        shared = rng.normal(0, 0.008, 20)
        first, second = (dict(enumerate(shared + rng.normal(0, 0.0083, 20))) for _ in range(2))
        covered += compare_rounds(first, second, same_data=True).contains_zero
    assert 0.935 <= covered / SWEEPS <= 0.965
    assert np.mean(flattery) > 0.003


def test_trials_of_other_data_are_compared_unpaired() -> None:
    one, other = build_trial(0, 0.9, 0.8, 0.85), build_trial(1, 0.7, 0.6, 0.66)
    assert compare_with_best(one, [one, other])[1].difference.method == "paired"
    other = replace(other, data={"source": "mnist", "train_pairs": 10})
    assert compare_with_best(one, [one, other])[1].difference.method == "Welch"
