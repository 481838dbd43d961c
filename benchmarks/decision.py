"""Error rate and power of the rule for "better": the table of ``docs/comparing.md``.

``python benchmarks/decision.py`` prints the table, from 4,000 simulated comparisons per cell. ``--power`` prints the
constants of ``pairs_lit/analysis/power.py``, which takes ten minutes.

Two networks are compared on n shared seeds. Rounds with the same seed share a random part. The differences between them
have a standard deviation of 0.01. A network that fails in 5 % of its rounds ends these at chance, 0.55. The truly
better
network is the one with the higher mean over all rounds that could be trained, failed ones included.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats
from tabulate import tabulate

from pairs_lit.analysis.comparison_tests import CombinedTests, run_paired_tests, run_unpaired_tests
from pairs_lit.statistics import SIGNIFICANCE_LEVEL, TARGET_POWER, compute_t_detectable_errors

Values = NDArray[np.float64]
COUNTS = (6, 10, 20, 30, 100)
SAMPLES = 4000
FAILURE_RATE, CHANCE_ACCURACY, LEARNED_ACCURACY = 0.05, 0.55, 0.87
_FAILURE_COST = FAILURE_RATE * (LEARNED_ACCURACY - CHANCE_ACCURACY)  # how much failed rounds lower a mean


@dataclass(frozen=True)
class Pairs:
    """Simulated rounds of two networks on the same seeds.

    Attributes:
        first: Accuracies of the first network, (samples, n).
        second: Accuracies of the second network, (samples, n).
        is_seen: Whether the sample shows the failures, (samples,): at least 5 % of its rounds failed, for each network
            that fails at all. Otherwise the network looks better in the sample than it is.
    """

    first: Values
    second: Values
    is_seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A pair of networks.

    Attributes:
        title: Row title in the table. Its length seeds the simulation, so a new title changes the numbers.
        true_sign: Sign of the difference of the true means, first minus second.
        draw: Function that draws n rounds of each network.
    """

    title: str
    true_sign: int
    draw: Callable[[np.random.Generator, int], Pairs]


def _draw_normal(
    rng: np.random.Generator, n: int, gain: float, *, first_fails: bool = False, second_fails: bool = False
) -> Pairs:
    shared = rng.normal(LEARNED_ACCURACY, 0.008, (SAMPLES, n))
    first, second = (shared + rng.normal(0, 0.01 / np.sqrt(2), (SAMPLES, n)) for _ in range(2))
    is_seen = np.ones(SAMPLES, dtype=np.bool_)
    for rounds, fails in ((first, first_fails), (second, second_fails)):
        failed = rng.random((SAMPLES, n)) < FAILURE_RATE * fails
        rounds[failed] = rng.normal(CHANCE_ACCURACY, 0.015, failed.sum())
        is_seen &= failed.mean(1) >= FAILURE_RATE * fails
    learned = first > (LEARNED_ACCURACY + CHANCE_ACCURACY) / 2
    return Pairs(first + gain * learned, second, is_seen)


def _draw_skewed(rng: np.random.Generator, n: int, gain: float) -> Pairs:
    """Draw differences of skewness -1: most rounds of the first are a little better, some are clearly worse."""
    second = rng.normal(LEARNED_ACCURACY, 0.008, (SAMPLES, n))
    skewed = 0.005 * (4 - rng.gamma(4, size=(SAMPLES, n)))
    return Pairs(second + gain + skewed, second, np.ones(SAMPLES, dtype=np.bool_))


def _draw_near_ceiling(rng: np.random.Generator, n: int) -> Pairs:
    """Draw accuracies near the ceiling with a long tail against accuracies in the middle, both logit-normal."""
    first = special.expit(rng.normal(3.5, 0.8, (SAMPLES, n))) - _CEILING_MEAN
    second = special.expit(rng.normal(1.8, 0.1, (SAMPLES, n))) - _MIDDLE_MEAN
    return Pairs(LEARNED_ACCURACY + first, LEARNED_ACCURACY + second, np.ones(SAMPLES, dtype=np.bool_))


def _compute_logit_normal_mean(location: float, spread: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(special.expit(location + spread * nodes) @ weights / weights.sum())


_CEILING_MEAN, _MIDDLE_MEAN = _compute_logit_normal_mean(3.5, 0.8), _compute_logit_normal_mean(1.8, 0.1)
NORMAL_BETTER = Case("normal, better by 0.005", 1, lambda rng, n: _draw_normal(rng, n, 0.005))
NEAR_CEILING = Case("strongly skewed (near 1), equal means", 0, _draw_near_ceiling)
ONE_FAILS = Case(
    "one fails in 5 %, equal means",
    0,
    lambda rng, n: _draw_normal(rng, n, _FAILURE_COST / (1 - FAILURE_RATE), first_fails=True),
)
CASES = (
    Case("normal, equal means", 0, lambda rng, n: _draw_normal(rng, n, 0)),
    NORMAL_BETTER,
    Case("skewed, equal means", 0, lambda rng, n: _draw_skewed(rng, n, 0)),
    Case("skewed, better by 0.005", 1, lambda rng, n: _draw_skewed(rng, n, 0.005)),
    NEAR_CEILING,
    ONE_FAILS,
    Case("one fails in 5 %, else better by 0.004", -1, lambda rng, n: _draw_normal(rng, n, 0.004, first_fails=True)),
    Case(
        "both fail in 5 %, equal means", 0, lambda rng, n: _draw_normal(rng, n, 0, first_fails=True, second_fails=True)
    ),
    Case(
        "both fail in 5 %, better by 0.006",
        1,
        lambda rng, n: _draw_normal(rng, n, 0.006, first_fails=True, second_fails=True),
    ),
)


@dataclass(frozen=True)
class Rates:
    """How often a rule names the wrong winner and the right one. With equal means, any winner is wrong."""

    wrong: float
    right: float

    def format_rates(self, case: Case) -> str:
        """Return both rates in per cent, or only the first if the means are equal."""
        return f"{100 * self.wrong:.1f}" + (f" / {100 * self.right:.1f}" if case.true_sign else "")


@dataclass(frozen=True)
class SimulationResult:
    """Rates of three rules in one case: the decision, Student's t test, Wilcoxon's test with the sign of the mean.

    Attributes:
        decision_if_failures_visible: Rates of the decision over the samples that show the failures.
    """

    case: Case
    n: int
    tests: CombinedTests
    decision: Rates
    decision_if_failures_visible: Rates
    student: Rates
    wilcoxon: Rates


def simulate(case: Case, n: int) -> SimulationResult:
    """Compare the two networks in 4,000 samples of n rounds."""
    pairs = case.draw(np.random.default_rng([n, len(case.title)]), n)
    tests = run_paired_tests(pairs.first - pairs.second)

    def rates(signs: Values) -> Rates:
        wrong = signs != 0 if case.true_sign == 0 else signs == -case.true_sign
        return Rates(float(wrong.mean()), float((signs == case.true_sign).mean()) if case.true_sign else 0.0)

    by_mean = np.sign(tests.mean)
    student, wilcoxon = (rates(np.where(p < SIGNIFICANCE_LEVEL, by_mean, 0)) for p in (tests.p_t, tests.p_rank))
    return SimulationResult(case, n, tests, rates(tests.sign), rates(tests.sign[pairs.is_seen]), student, wilcoxon)


def render_table() -> str:
    """Simulate every case and return the table in Markdown."""
    rows = []
    for case in CASES:
        results = [simulate(case, n) for n in COUNTS]
        rules = {
            "Wilcoxon, sign of the mean": [result.wilcoxon for result in results],
            "Student's t": [result.student for result in results],
            "both": [result.decision for result in results],
            **(
                {"both, no failure hidden": [result.decision_if_failures_visible for result in results]}
                if "fail" in case.title
                else {}
            ),
        }
        for place, (rule, rates) in enumerate(rules.items()):
            rows.append(["" if place else case.title, rule, *(rate.format_rates(case) for rate in rates)])
    header = ["networks", "rule", *(f"n = {n}" for n in COUNTS)]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def compute_limit_ratio() -> float:
    """Return the minimum detectable effect for very many rounds, relative to that of the t test alone."""
    correlation, threshold = np.sqrt(3 / np.pi), special.ndtri(1 - SIGNIFICANCE_LEVEL / 2)
    joint = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]])

    def lack(shift: float) -> float:
        return float(joint.cdf([shift - threshold, correlation * shift - threshold])) - TARGET_POWER

    return float(optimize.brentq(lack, 2.5, 3.5) / (threshold + special.ndtri(TARGET_POWER)))


def compute_power_ratio(n: int, *, is_paired: bool, count: int = 100_000) -> float:
    """Return the same ratio for n pairs of rounds, or for two samples of n rounds."""
    values = np.random.default_rng([0, n, is_paired]).normal(size=(2, count, n))
    freedom, error = (n - 1, np.sqrt(1 / n)) if is_paired else (2 * n - 2, np.sqrt(2 / n))
    shift = compute_t_detectable_errors(freedom) * error

    def lack(ratio: float) -> float:
        moved = values[0] + ratio * shift
        tests = run_paired_tests(moved) if is_paired else run_unpaired_tests(moved, values[1])
        return float((tests.sign > 0).mean()) - TARGET_POWER

    return float(optimize.brentq(lack, 1.0, 1.6, xtol=5e-4))


def main() -> None:
    """Print the table, or the constants of the power."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--power", action="store_true", help="print the constants of pairs_lit/analysis/power.py")
    if not parser.parse_args().power:
        print(render_table())
        return
    print(f"limit {compute_limit_ratio():.4f}")
    for is_paired, first in ((True, 6), (False, 4)):
        for n in range(first, 21):
            print(
                "paired" if is_paired else "unpaired",
                n,
                f"{compute_power_ratio(n, is_paired=is_paired):.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
