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

from pairs_lit.analysis.comparison_tests import BothTests, paired_tests, unpaired_tests
from pairs_lit.statistics import LEVEL, POWER, t_detectable_errors

Values = NDArray[np.float64]
COUNTS = (6, 10, 20, 30, 100)
SAMPLES = 4000
FAILING, CHANCE, LEARNED = 0.05, 0.55, 0.87
_LOSS = FAILING * (LEARNED - CHANCE)  # how much failed rounds lower a mean


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
        truth: Sign of the difference of the true means, first minus second.
        draw: Function that draws n rounds of each network.
    """

    title: str
    truth: int
    draw: Callable[[np.random.Generator, int], Pairs]


def _draw_normal(
    rng: np.random.Generator, n: int, gain: float, *, first_fails: bool = False, second_fails: bool = False
) -> Pairs:
    shared = rng.normal(LEARNED, 0.008, (SAMPLES, n))
    first, second = (shared + rng.normal(0, 0.01 / np.sqrt(2), (SAMPLES, n)) for _ in range(2))
    is_seen = np.ones(SAMPLES, dtype=np.bool_)
    for rounds, fails in ((first, first_fails), (second, second_fails)):
        failed = rng.random((SAMPLES, n)) < FAILING * fails
        rounds[failed] = rng.normal(CHANCE, 0.015, failed.sum())
        is_seen &= failed.mean(1) >= FAILING * fails
    learned = first > (LEARNED + CHANCE) / 2
    return Pairs(first + gain * learned, second, is_seen)


def _draw_skewed(rng: np.random.Generator, n: int, gain: float) -> Pairs:
    """Draw differences of skewness -1: most rounds of the first are a little better, some are clearly worse."""
    second = rng.normal(LEARNED, 0.008, (SAMPLES, n))
    skewed = 0.005 * (4 - rng.gamma(4, size=(SAMPLES, n)))
    return Pairs(second + gain + skewed, second, np.ones(SAMPLES, dtype=np.bool_))


def _draw_near_ceiling(rng: np.random.Generator, n: int) -> Pairs:
    """Draw accuracies near the ceiling with a long tail against accuracies in the middle, both logit-normal."""
    first = special.expit(rng.normal(3.5, 0.8, (SAMPLES, n))) - _CEILING
    second = special.expit(rng.normal(1.8, 0.1, (SAMPLES, n))) - _MIDDLE
    return Pairs(LEARNED + first, LEARNED + second, np.ones(SAMPLES, dtype=np.bool_))


def _mean_of_logit_normal(location: float, spread: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(special.expit(location + spread * nodes) @ weights / weights.sum())


_CEILING, _MIDDLE = _mean_of_logit_normal(3.5, 0.8), _mean_of_logit_normal(1.8, 0.1)
BETTER = Case("normal, better by 0.005", 1, lambda rng, n: _draw_normal(rng, n, 0.005))
CEILING = Case("strongly skewed (near 1), equal means", 0, _draw_near_ceiling)
FAILS = Case(
    "one fails in 5 %, equal means", 0, lambda rng, n: _draw_normal(rng, n, _LOSS / (1 - FAILING), first_fails=True)
)
CASES = (
    Case("normal, equal means", 0, lambda rng, n: _draw_normal(rng, n, 0)),
    BETTER,
    Case("skewed, equal means", 0, lambda rng, n: _draw_skewed(rng, n, 0)),
    Case("skewed, better by 0.005", 1, lambda rng, n: _draw_skewed(rng, n, 0.005)),
    CEILING,
    FAILS,
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

    def show(self, case: Case) -> str:
        """Return both rates in per cent, or only the first if the means are equal."""
        return f"{100 * self.wrong:.1f}" + (f" / {100 * self.right:.1f}" if case.truth else "")


@dataclass(frozen=True)
class Result:
    """Rates of three rules in one case: the decision, Student's t test, Wilcoxon's test with the sign of the mean.

    Attributes:
        seen: Rates of the decision over the samples that show the failures.
    """

    case: Case
    n: int
    tests: BothTests
    decision: Rates
    seen: Rates
    student: Rates
    wilcoxon: Rates


def simulate(case: Case, n: int) -> Result:
    """Compare the two networks in 4,000 samples of n rounds."""
    pairs = case.draw(np.random.default_rng([n, len(case.title)]), n)
    tests = paired_tests(pairs.first - pairs.second)

    def rates(signs: Values) -> Rates:
        wrong = signs != 0 if case.truth == 0 else signs == -case.truth
        return Rates(float(wrong.mean()), float((signs == case.truth).mean()) if case.truth else 0.0)

    by_mean = np.sign(tests.mean)
    student, wilcoxon = (rates(np.where(p < LEVEL, by_mean, 0)) for p in (tests.p_t, tests.p_rank))
    return Result(case, n, tests, rates(tests.sign), rates(tests.sign[pairs.is_seen]), student, wilcoxon)


def table() -> str:
    """Simulate every case and return the table in Markdown."""
    rows = []
    for case in CASES:
        results = [simulate(case, n) for n in COUNTS]
        rules = {
            "Wilcoxon, sign of the mean": [result.wilcoxon for result in results],
            "Student's t": [result.student for result in results],
            "both": [result.decision for result in results],
            **({"both, no failure hidden": [result.seen for result in results]} if "fail" in case.title else {}),
        }
        for place, (rule, rates) in enumerate(rules.items()):
            rows.append(["" if place else case.title, rule, *(rate.show(case) for rate in rates)])
    header = ["networks", "rule", *(f"n = {n}" for n in COUNTS)]
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def limit_ratio() -> float:
    """Return the minimum detectable effect for very many rounds, relative to that of the t test alone."""
    correlation, threshold = np.sqrt(3 / np.pi), special.ndtri(1 - LEVEL / 2)
    joint = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]])

    def lack(shift: float) -> float:
        return float(joint.cdf([shift - threshold, correlation * shift - threshold])) - POWER

    return float(optimize.brentq(lack, 2.5, 3.5) / (threshold + special.ndtri(POWER)))


def power_ratio(n: int, *, is_paired: bool, count: int = 100_000) -> float:
    """Return the same ratio for n pairs of rounds, or for two samples of n rounds."""
    values = np.random.default_rng([0, n, is_paired]).normal(size=(2, count, n))
    freedom, error = (n - 1, np.sqrt(1 / n)) if is_paired else (2 * n - 2, np.sqrt(2 / n))
    shift = t_detectable_errors(freedom) * error

    def lack(ratio: float) -> float:
        moved = values[0] + ratio * shift
        tests = paired_tests(moved) if is_paired else unpaired_tests(moved, values[1])
        return float((tests.sign > 0).mean()) - POWER

    return float(optimize.brentq(lack, 1.0, 1.6, xtol=5e-4))


def main() -> None:
    """Print the table, or the constants of the power."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--power", action="store_true", help="print the constants of pairs_lit/analysis/power.py")
    if not parser.parse_args().power:
        print(table())
        return
    print(f"limit {limit_ratio():.4f}")
    for is_paired, first in ((True, 6), (False, 4)):
        for n in range(first, 21):
            print("paired" if is_paired else "unpaired", n, f"{power_ratio(n, is_paired=is_paired):.4f}", flush=True)


if __name__ == "__main__":
    main()
