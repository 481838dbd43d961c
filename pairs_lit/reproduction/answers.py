"""The page that answers the reports' claims from the rounds that were trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from pairs_lit.analysis.tables import p_value
from pairs_lit.reproduction.claims import Claim, Contrast, Side
from pairs_lit.runs.run import Run
from pairs_lit.statistics import LEVEL, between_rounds, holm, spread_p, summarise

Fits = Mapping[tuple[str, str, str], Run]
"""Finished fits by report, row and variant."""


@dataclass(frozen=True)
class Answer:
    """What the rounds say to one contrast.

    Attributes:
        contrast: The question.
        n: Rounds, and how they were compared.
        first: The first side's mean and std.
        second: The second side's.
        found: The difference or ratio.
        interval: Its 95 % interval; empty for a ratio.
        p: Two-sided p value; NaN for a time.
        direction: 1 where the first is larger, −1 where it is smaller.
        detectable: The smallest difference that so many rounds find; NaN for a ratio.
    """

    contrast: Contrast
    n: str
    first: str
    second: str
    found: str
    interval: str
    p: float
    direction: int
    detectable: float = float("nan")


def answer(contrast: Contrast, fits: Fits) -> Answer:
    """Answer one contrast."""
    if contrast.kind == "time":
        return _time(contrast, fits)
    one, two = values(contrast.first, fits), values(contrast.second, fits)
    return _spread(contrast, one, two) if contrast.kind == "spread" else _mean(contrast, one, two, fits)


def values(side: Side, fits: Fits) -> dict[int, float]:
    """Return a side's figure by seed, of the rounds that did not fail; a shorter run gives its last epoch."""
    fit = fits[side.fit]
    good = [result.seed for result in fit.rounds if result.status == "ok"]
    if side.epoch is None:
        found = {result.seed: vars(result)[side.metric] for result in fit.rounds}
    else:
        curves = fit.curves
        epoch = min(side.epoch, curves.epochs) - 1
        found = dict(zip(curves.seeds, curves.values[side.metric][epoch].tolist(), strict=True))
    return {seed: float(found[seed]) for seed in good}


def _mean(contrast: Contrast, one: Mapping[int, float], two: Mapping[int, float], fits: Fits) -> Answer:
    first, second = (fits[side.fit] for side in (contrast.first, contrast.second))
    difference = between_rounds(one, two, same_data=first.facts.data == second.facts.data)
    rounds = f"{len(one)}, {len(two)}, unpaired"
    n = f"{difference.n[0]}, paired" if difference.method == "paired" else rounds
    return Answer(
        contrast,
        n,
        _shown(one),
        _shown(two),
        f"{difference.estimate:+.4f}",
        f"{difference.low:+.4f} to {difference.high:+.4f}",
        difference.p,
        int(np.sign(difference.estimate)),
        difference.detectable,
    )


def _spread(contrast: Contrast, one: Mapping[int, float], two: Mapping[int, float]) -> Answer:
    first, second = (summarise(list(side.values())) for side in (one, two))
    ratio = first.std / second.std if second.std > 0 else float("nan")
    p = spread_p(list(one.values()), list(two.values()))
    n = f"{first.n}, {second.n}"
    return Answer(contrast, n, _shown(one), _shown(two), f"× {ratio:.2f}", "", p, 1 if ratio > 1 else -1)


def _time(contrast: Contrast, fits: Fits) -> Answer:
    first, second = (fits[side.fit] for side in (contrast.first, contrast.second))
    one, two = (fit.facts.seconds / len(fit.rounds) for fit in (first, second))
    shown = f"{one:.2f} s a round", f"{two:.2f} s a round"
    return Answer(contrast, "1 measurement", *shown, f"× {one / two:.2f}", "", float("nan"), int(np.sign(one - two)))


def _shown(side: Mapping[int, float]) -> str:
    summary = summarise(list(side.values()))
    return f"{summary.mean:.4f} ± {summary.std:.4f}"


def page(claims: Sequence[Claim], fits: Fits, conditions: str) -> str:
    """Return the page, a section a claim."""
    head = (
        "# What the reports claim, and what our rounds say\n\nMade by `pairs-lit reproduce`. " + conditions + " "
        "Accuracies are fractions of test pairs after the last epoch unless said otherwise, mean ± std (ddof 1). "
        "Paired: by seed, bootstrap interval (BCa) and sign-change permutation test, from 14 rounds on Wilcoxon's "
        "signed-rank test; unpaired: Welch. Spreads: Brown and Forsythe's test. p is Holm-corrected over the tests of "
        f"its question; a difference counts below {LEVEL:g}. Detectable: the smallest true difference that so many "
        "rounds find with 80 % power, uncorrected."
    )
    sections = [_section(claim, [answer(contrast, fits) for contrast in claim.contrasts]) for claim in claims]
    return "\n\n".join([head, *sections]) + "\n"


def _section(claim: Claim, answers: Sequence[Answer]) -> str:
    tested = [each.p for each in answers if each.p == each.p]
    corrected = iter(holm(tested))
    p_values = [next(corrected) if each.p == each.p else None for each in answers]
    rows = [_row(each, p) for each, p in zip(answers, p_values, strict=True)]
    header = ["contrast", "n", "first", "second", "difference or ratio", "95 % interval", "p (Holm)", "detectable"]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    ours = f"**Ours**: {verdict(answers, p_values)}."
    parts = [f"## {claim.question}", f"*The reports*: {claim.said}", ours, claim.remark, table]
    return "\n\n".join(part for part in parts if part)


def _row(answer: Answer, p: float | None) -> list[str]:
    shown = "–" if p is None else p_value(p)
    detectable = "–" if answer.detectable != answer.detectable else f"{answer.detectable:.4f}"
    return [
        answer.contrast.title,
        answer.n,
        answer.first,
        answer.second,
        answer.found,
        answer.interval or "–",
        shown,
        detectable,
    ]


def verdict(answers: Sequence[Answer], p_values: Sequence[float | None]) -> str:
    """Say in words what came out: where the first is larger, where smaller, and where neither was shown."""
    groups: dict[str, list[str]] = {}
    for each, p in zip(answers, p_values, strict=True):
        groups.setdefault(_finding(each, p), []).append(f"{each.contrast.title} ({each.found})")
    return "; ".join(f"{finding}: {', '.join(titles)}" for finding, titles in groups.items())


def _finding(answer: Answer, p: float | None) -> str:
    if p is None:
        return "measured once"
    if p >= LEVEL:
        return "no difference shown"
    return _WORDS[answer.contrast.kind, answer.direction]


_WORDS = {
    ("mean", 1): "the first is higher",
    ("mean", -1): "the first is lower",
    ("spread", 1): "the first scatters more",
    ("spread", -1): "the first scatters less",
}
