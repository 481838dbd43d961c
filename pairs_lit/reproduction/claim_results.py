"""The page that answers the reports' claims from the rounds that were trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pairs_lit.analysis.comparison_tests import Decision, MeasuredDifference, compare_rounds, decide
from pairs_lit.analysis.power import describe_limit
from pairs_lit.analysis.tables import decimal, interval, p_value, table
from pairs_lit.reproduction.claims import Claim, Contrast, Side
from pairs_lit.reproduction.fit_results import seconds_a_round
from pairs_lit.runs.run import FinishedRun
from pairs_lit.runs.run_metadata import unlike
from pairs_lit.statistics import LEVEL, SpreadRatio, compare_spreads, holm, summarise

Fits = Mapping[tuple[str, str, str], FinishedRun]
"""Finished fits by report, row and variant."""


@dataclass(frozen=True)
class Answer:
    """What the rounds say to one contrast."""

    contrast: Contrast
    n: str  # rounds, and how they were compared
    first: str  # mean and std, or time
    second: str
    found: str  # the difference or ratio
    measured: MeasuredDifference | SpreadRatio | None = None  # None of a time, which was measured once

    @property
    def difference(self) -> MeasuredDifference | None:
        """The difference of the means, or None if something else was compared."""
        return self.measured if isinstance(self.measured, MeasuredDifference) else None


def answer(contrast: Contrast, fits: Fits) -> Answer:
    """Answer one contrast."""
    first, second = fits[contrast.first.fit], fits[contrast.second.fit]
    if contrast.kind == "time":
        time, other = seconds_a_round(first), seconds_a_round(second)
        shown = f"{time:.2f} s a round", f"{other:.2f} s a round"
        return Answer(contrast, "1 measurement", *shown, f"× {time / other:.2f}")
    one, two = values(contrast.first, fits), values(contrast.second, fits)
    here, there = summarise(list(one.values())), summarise(list(two.values()))
    shown = f"{here.mean:.4f} ± {here.std:.4f}", f"{there.mean:.4f} ± {there.std:.4f}"
    if contrast.kind == "spread":
        spread = compare_spreads(list(one.values()), list(two.values()))
        return Answer(contrast, f"{here.n}, {there.n}", *shown, f"× {spread.ratio:.2f}", spread)
    same_data = not unlike(first.facts.data, second.facts.data)
    found = compare_rounds(one, two, same_data=same_data)
    n = f"{found.n[0]}, paired" if found.is_paired else f"{here.n}, {there.n}, unpaired"
    return Answer(contrast, n, *shown, f"{found.estimate:+.4f}", found)


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
        "Paired by seed: Student's paired t test and Wilcoxon's signed-rank test; unpaired: Welch's and Mann and "
        "Whitney's. The interval is that of the t test, p the larger of both, Holm-corrected over the tests of its "
        f"question. A difference counts if both tests reject at {LEVEL:g} and mean difference, median difference and "
        "ranks have the same sign. Spreads: Brown and Forsythe's test. Minimum detectable effect: the smallest true "
        "difference that this rule finds with 80 % power, uncorrected."
    )
    sections = [_section(claim, [answer(contrast, fits) for contrast in claim.contrasts]) for claim in claims]
    return "\n\n".join([head, *sections]) + "\n"


def _section(claim: Claim, answers: Sequence[Answer]) -> str:
    findings = find(answers)
    rows = []
    for each, finding in zip(answers, findings, strict=True):
        difference = each.difference
        tested = ["–" if finding.p is None else p_value(finding.p)]
        tested += ["–" if difference is None else decimal(difference.detectable)]
        shown = "–" if difference is None else interval(difference.low, difference.high, "+")
        rows.append([each.contrast.title, each.n, each.first, each.second, each.found, shown, *tested])
    header = ["contrast", "n", "first", "second", "difference or ratio", "95 % interval", "p (Holm)"]
    header += ["minimum detectable effect"]
    ours = f"**Ours**: {describe_findings(answers, findings)}."
    parts = [f"## {claim.question}", f"*The reports*: {claim.said}", ours, claim.remark, table(header, rows, "github")]
    return "\n\n".join(part for part in parts if part)


def describe_limit_of(claims: Sequence[Claim], rounds: int) -> str:
    """Return why so many rounds cannot answer some of the questions; empty where they can answer all."""
    counts = [sum(contrast.kind == "mean" for contrast in claim.contrasts) for claim in claims]
    limits = {count: describe_limit(rounds, rounds, count, is_paired=True) for count in counts}
    unanswered = [count for count in counts if limits[count]]
    if not unanswered:
        return ""
    questions = f"{len(unanswered)} of {len(claims)} questions on the reports' claims"
    return f"{questions} cannot be answered by rounds that are paired by seed: {limits[max(unanswered)]}"


@dataclass(frozen=True)
class Finding:
    """What came out of one contrast, in words, and its corrected p value; None of a time."""

    words: str
    p: float | None


def find(answers: Sequence[Answer]) -> list[Finding]:
    """Decide what may be said of the contrasts of one question; p values are corrected for all of its tests."""
    differences = [each.difference for each in answers if each.difference is not None]
    spreads = [each.measured for each in answers if isinstance(each.measured, SpreadRatio)]
    decisions = iter(decide(differences, [each.p for each in spreads]))
    corrected = iter(holm([*(each.p for each in spreads), *(each.p for each in differences)]))
    findings = []
    for each in answers:
        if each.measured is None:
            findings.append(Finding("measured once", None))
        elif isinstance(each.measured, SpreadRatio):
            p = next(corrected)
            findings.append(Finding(_describe_spread(each.measured, p), p))
        else:
            decision = next(decisions)
            findings.append(Finding(_describe_decision(decision), decision.p_holm))
    return findings


def _describe_spread(spread: SpreadRatio, p: float) -> str:
    sign = spread.sign if p < LEVEL else 0
    return {1: "the first scatters more", -1: "the first scatters less", 0: "no difference in scatter shown"}[sign]


def _describe_decision(decision: Decision) -> str:
    if decision.sign:
        return "the first is higher" if decision.sign > 0 else "the first is lower"
    if decision.outcome == "tests disagree":
        return "the tests disagree"
    if decision.outcome == "too few rounds":
        return f"no difference can be shown ({decision.limit})"
    return "no difference shown"


def describe_findings(answers: Sequence[Answer], findings: Sequence[Finding]) -> str:
    """Return what came out, grouped: where the first is larger, where smaller, and where neither was shown."""
    groups: dict[str, list[str]] = {}
    for each, finding in zip(answers, findings, strict=True):
        found = each.found
        if finding.words == "the tests disagree" and each.difference is not None:
            found = f"mean {found}, median {each.difference.median:+.4f}"
        groups.setdefault(finding.words, []).append(f"{each.contrast.title} ({found})")
    return "; ".join(f"{words}: {', '.join(titles)}" for words, titles in groups.items())
