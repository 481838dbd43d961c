"""The page that answers the reports' claims from the rounds that were trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pairs_lit.analysis.tables import decimal, p_value
from pairs_lit.reproduction.claims import Claim, Contrast, Side
from pairs_lit.reproduction.outcomes import interval, seconds_a_round, table
from pairs_lit.runs.run import Run
from pairs_lit.runs.summary import unlike
from pairs_lit.statistics import LEVEL, NAN, between_rounds, holm, spread_p, summarise

Fits = Mapping[tuple[str, str, str], Run]
"""Finished fits by report, row and variant."""


@dataclass(frozen=True)
class Answer:
    """What the rounds say to one contrast."""

    contrast: Contrast
    n: str  # rounds, and how they were compared
    first: str  # mean and std, or time
    second: str
    found: str  # the difference or ratio
    direction: int  # 1 where the first is larger, else −1
    p: float = NAN  # two-sided; NaN for a time
    interval: str = "–"  # the 95 % interval of a difference
    detectable: float = NAN  # the smallest difference that so many rounds find; NaN for a ratio


def answer(contrast: Contrast, fits: Fits) -> Answer:
    """Answer one contrast."""
    first, second = fits[contrast.first.fit], fits[contrast.second.fit]
    if contrast.kind == "time":
        time, other = seconds_a_round(first), seconds_a_round(second)
        shown = f"{time:.2f} s a round", f"{other:.2f} s a round"
        return Answer(contrast, "1 measurement", *shown, f"× {time / other:.2f}", 1 if time > other else -1)
    one, two = values(contrast.first, fits), values(contrast.second, fits)
    here, there = summarise(list(one.values())), summarise(list(two.values()))
    shown = f"{here.mean:.4f} ± {here.std:.4f}", f"{there.mean:.4f} ± {there.std:.4f}"
    if contrast.kind == "spread":
        ratio = here.std / there.std if there.std > 0 else NAN
        p = spread_p(list(one.values()), list(two.values()))
        return Answer(contrast, f"{here.n}, {there.n}", *shown, f"× {ratio:.2f}", 1 if ratio > 1 else -1, p)
    same_data = not unlike(first.facts.data, second.facts.data)
    found = between_rounds(one, two, same_data=same_data, bootstrap=True)
    n = f"{found.n[0]}, paired" if found.method == "paired" else f"{here.n}, {there.n}, unpaired"
    sign = 1 if found.estimate > 0 else -1
    return Answer(contrast, n, *shown, f"{found.estimate:+.4f}", sign, found.p, interval(found), found.detectable)


def values(side: Side, fits: Fits) -> dict[int, float]:
    """Return a side's figure by seed, of the rounds that did not fail; a shorter run gives its last epoch."""
    fit = fits[side.fit]
    if side.epoch is None:
        return fit.values(side.metric)
    curves = fit.curves
    epoch = min(side.epoch, curves.epochs) - 1
    found = dict(zip(curves.seeds, curves.values[side.metric][epoch].tolist(), strict=True))
    return {each.seed: found[each.seed] for each in fit.rounds if each.status == "ok"}


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
    corrected = iter(holm([each.p for each in answers if each.p == each.p]))
    p_values = [next(corrected) if each.p == each.p else None for each in answers]
    rows = []
    for each, p in zip(answers, p_values, strict=True):
        tested = ["–" if p is None else p_value(p), decimal(each.detectable)]
        rows.append([each.contrast.title, each.n, each.first, each.second, each.found, each.interval, *tested])
    header = ["contrast", "n", "first", "second", "difference or ratio", "95 % interval", "p (Holm)", "detectable"]
    ours = f"**Ours**: {verdict(answers, p_values)}."
    parts = [f"## {claim.question}", f"*The reports*: {claim.said}", ours, claim.remark, table(header, rows)]
    return "\n\n".join(part for part in parts if part)


def verdict(answers: Sequence[Answer], p_values: Sequence[float | None]) -> str:
    """Say in words what came out: where the first is larger, where smaller, and where neither was shown."""
    groups: dict[str, list[str]] = {}
    for each, p in zip(answers, p_values, strict=True):
        if p is None:
            finding = "measured once"
        elif p >= LEVEL:
            finding = "no difference shown"
        else:
            finding = _WORDS[each.contrast.kind, each.direction]
        groups.setdefault(finding, []).append(f"{each.contrast.title} ({each.found})")
    return "; ".join(f"{finding}: {', '.join(titles)}" for finding, titles in groups.items())


_WORDS = {
    ("mean", 1): "the first is higher",
    ("mean", -1): "the first is lower",
    ("spread", 1): "the first scatters more",
    ("spread", -1): "the first scatters less",
}
