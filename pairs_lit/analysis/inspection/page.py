"""Markdown report of an inspection: figures with captions, and tables."""

import re
from collections.abc import Collection, Sequence

from pairs_lit.analysis.inspection.figures import format_readings
from pairs_lit.analysis.inspection.numbers import MAX_COMPARED_ROUNDS, MIN_PAIRS, NUM_BINS, HardPair, Inspection
from pairs_lit.analysis.tables import (
    format_decimal,
    format_interval,
    format_summary_table,
    format_table,
)
from pairs_lit.relation import get_sign
from pairs_lit.statistics import SIGNIFICANCE_LEVEL, format_mean_and_std
from pairs_lit.text import format_count, replace_control_characters

MARK = "Made by pairs-lit inspect"
"""A text in each file that an inspection writes; files without it are never overwritten."""

_MAX_LISTED_ROUNDS = (
    12  # with more rounds, the table of hard pairs shows the range of P instead of one column per round
)


def render_page(run: Inspection, figures: Collection[str]) -> str:
    """Return the report in Markdown.

    Args:
        run: The inspection of the run.
        figures: The names of the figures, which are PNG files next to the report.
    """
    counted_units = "rounds; for agreement and kappa, pairs of rounds" if run.agreement else "rounds"
    parts = [
        f"<!-- {MARK}; rerunning the command overwrites this file. -->",
        f"# Inspection of {_escape_markdown(run.label)}",
        _render_introduction(run),
        format_summary_table(run.summaries(), style="github"),
        f"Std: sample standard deviation (ddof 1). n: number of {counted_units}.",
        *_render_learning_curves(run, figures),
        *_render_hardest_pairs(run, figures),
        *_render_confusion(run, figures),
        *_render_accuracy_by_distance(run),
        *_render_accuracy_by_classes(run),
        *_render_calibration(run),
        *_render_agreement(run, figures),
    ]
    return "\n\n".join(parts) + "\n"


def _escape_markdown(text: str) -> str:
    """Return the text with Markdown characters escaped, since names come from untrusted files."""
    return re.sub(r"([\\`*\[\]<>|!#&~_])", r"\\\1", replace_control_characters(text))


def _render_introduction(run: Inspection) -> str:
    relation = f"first {get_sign(run.relation)} second"
    text = (
        f"Made by `pairs-lit inspect`: {_escape_markdown(run.basis)}; relation: {relation}. All rounds predict "
        "the same pairs, "
        f"the test pairs of seed {run.pair_seed}, as in `pairs-lit predict`, without further training. `rounds.csv` "
        "measures each round on its own test pairs, so accuracies there differ."
    )
    if run.failed:
        seeds = ", ".join(map(str, run.failed))
        rounds = format_count(len(run.curves.seeds), "round")
        text += f" **{len(run.failed)} of {rounds} FAILED** (seed {seeds}) and appear only in the learning curves."
    if run.class_names:
        names = ", ".join(map(_escape_markdown, run.names))
        text += f" The relation compares the positions of the classes in this order: {names}."
    return text


def _format_round_count(run: Inspection) -> str:
    return format_count(len(run.predictions.seeds), "round")


def _render_figure(name: str, figures: Collection[str]) -> list[str]:
    return [f"![{name.replace('-', ' ')}]({name}.png)"] if name in figures else []


def _render_learning_curves(run: Inspection, figures: Collection[str]) -> list[str]:
    failed = len(run.failed)
    text = (
        f"Accuracy and loss by epoch, as in `curves.csv`: a thin line for each round ({_format_round_count(run)}) "
        "and a thick "
        "line for the mean. Training values are averages over the epoch, during which the network changes. The other "
        "values are measured after the epoch, on each round's own pairs."
    )
    if failed:
        text += f" Failed rounds ({failed}) are dotted, end in a cross, and are not in the mean."
    return ["## Learning curves", *_render_figure("learning-curves", figures), text]


def _render_hardest_pairs(run: Inspection, figures: Collection[str]) -> list[str]:
    title = "## Hardest pairs"
    if not run.hardest:
        return [
            title,
            f"All {len(run.predictions.target)} pairs are predicted correctly by every round "
            f"({_format_round_count(run)}).",
        ]
    wrong, n = (~run.predictions.correct).sum(0), len(run.predictions.seeds)
    wrong_in_most = int((wrong > n / 2).sum())
    text = (
        f"Of {len(wrong)} pairs, {int((wrong == 0).sum())} are predicted correctly by every round "
        f"({_format_round_count(run)}), "
        f"{wrong_in_most} wrongly by more than half of the rounds, and {int((wrong == n).sum())} wrongly by every "
        f"round. Below are the {len(run.hardest)} pairs that most rounds get wrong, as the network sees them."
    )
    if run.confusion is not None:
        text += " The text below an image lists the classes read, with the number of rounds that read them."
    has_column_per_round = n <= _MAX_LISTED_ROUNDS
    sign = get_sign(run.relation)
    header = ["pair", f"first {sign} second", "truth", "wrong in", "read", "mean P"]
    header += [f"P, seed {seed}" for seed in run.predictions.seeds] if has_column_per_round else ["min P", "max P"]
    names = [_escape_markdown(name) for name in run.names]
    rows = [_build_hard_pair_row(pair, sign, names, has_column_per_round=has_column_per_round) for pair in run.hardest]
    note = f"pair: the number in `predictions.csv`. P: P(first {sign} second). n = {_format_round_count(run)}."
    return [title, text, *_render_figure("hardest-pairs", figures), format_table(header, rows, "github"), note]


def _build_hard_pair_row(pair: HardPair, sign: str, names: Sequence[str], *, has_column_per_round: bool) -> list[str]:
    read = "–" if pair.read_counts is None else "; ".join(format_readings(counts, names) for counts in pair.read_counts)
    p = pair.probability
    probabilities = p.tolist() if has_column_per_round else [p.min(), p.max()]
    first, second = (names[digit] for digit in pair.digits)
    truth, wrong = "yes" if pair.holds else "no", f"{pair.num_wrong} of {len(p)}"
    cells = [str(pair.index), f"{first} {sign} {second}", truth, wrong, read, f"{p.mean():.3f}"]
    return [*cells, *(f"{value:.3f}" for value in probabilities)]


def _render_confusion(run: Inspection, figures: Collection[str]) -> list[str]:
    title = "## Digit confusion"
    if run.confusion is None:
        return [title, "The network does not read digits."]
    counts, size = run.confusion.counts, run.predictions.num_classes
    text = (
        "Rows: true class; columns: class read. Each cell shows the share of the true class in % and the count, of "
        f"{int(counts.sum())} readings ({_format_round_count(run)} × {len(run.predictions.target)} pairs × 2 images). "
        f"Digit accuracy: {format_mean_and_std(run.confusion.accuracy)}."
    )
    if run.confusion.accuracy.mean < 2 / size:
        text += f" Guessing would reach {1 / size:.4f}, so this network was hardly trained to classify digits."
    names = [_escape_markdown(name) for name in run.names]
    rows = [[name, *map(str, row)] for name, row in zip(names, counts.tolist(), strict=True)]
    return [
        title,
        *_render_figure("digit-confusion", figures),
        text,
        format_table(["true \\ read", *names], rows, "github"),
    ]


def _render_accuracy_by_distance(run: Inspection) -> list[str]:
    rows = []
    for point in run.distances:
        accuracy = point.accuracy
        cells = format_decimal(accuracy.mean), format_decimal(accuracy.std), format_interval(*accuracy.interval)
        rows.append([point.distance, point.pairs, *cells])
    distance = "in the order of the classes" if run.class_names else "of the two classes"
    header = ["distance", "pairs", "mean accuracy", "std", "95 % interval"]
    text = (
        f"Accuracy by the distance {distance}: the mean over {_format_round_count(run)}, with Student's "
        f"{100 * (1 - SIGNIFICANCE_LEVEL):.0f} % "
        "interval of the mean over rounds. The interval covers how other rounds would do on these same pairs. Other "
        "pairs may differ more, above all where a point has few pairs."
    )
    figure = "![accuracy by distance](accuracy-by-distance.png)"
    return ["## Accuracy by |first − second|", figure, text, format_table(header, rows, "github")]


def _render_accuracy_by_classes(run: Inspection) -> list[str]:
    counts = run.class_pairs.pairs[run.class_pairs.pairs > 0]
    text = (
        "Rows: class of the first image; columns: class of the second. Each cell shows the accuracy in % over "
        f"{_format_round_count(run)} and the number of pairs ({counts.min()} to {counts.max()}). Cells with fewer "
        f"than {MIN_PAIRS} "
        "pairs are hatched, cells without pairs are grey."
    )
    return ["## Accuracy by classes", "![accuracy by classes](accuracy-by-classes.png)", text]


def _render_calibration(run: Inspection) -> list[str]:
    calibration = run.calibration
    relation = f"P(first {get_sign(run.relation)} second)"
    text = (
        "If the rounds predict with probability p that the relation holds, for what share of these pairs does it hold? "
        f"{int(calibration.counts.sum())} predictions of {_format_round_count(run)} are sorted into {NUM_BINS} "
        "bins of equal width. "
        "Each point is drawn at the mean P of its bin, with the 95 % interval over rounds. The lower panel shows how "
        "the predictions spread over the bins.\n\n"
        f"The expected calibration error of a round is the mean gap of the {NUM_BINS} bins, weighted by their "
        "predictions. "
        "It compares the confidence of the predictions, max(P, 1 − P), with the share of correct ones "
        f"({format_mean_and_std(calibration.error)}), and {relation} with the share of pairs for which it holds "
        f"({format_mean_and_std(calibration.relation_error)}). In a finite sample, even perfectly calibrated "
        "predictions have "
        "an error above 0."
    )
    return ["## Calibration", "![calibration](calibration.png)", text]


def _render_agreement(run: Inspection, figures: Collection[str]) -> list[str]:
    title, agreement = "## Agreement of rounds", run.agreement
    if agreement is None:
        return [title, "There is only one round, so agreement cannot be measured."]
    n, share, kappa = agreement.num_rounds, agreement.share, agreement.kappa
    rounds = f"the first {MAX_COMPARED_ROUNDS} rounds" if n < len(run.predictions.seeds) else f"all {n} rounds"
    text = (
        f"Two rounds predict the same for {100 * share.mean:.1f} % of the {len(run.predictions.target)} pairs on "
        "average "
        f"({share.n} pairs of rounds among {rounds}; from {100 * share.min:.1f} to {100 * share.max:.1f} %)."
    )
    if kappa.n:
        text += (
            f" Cohen's kappa corrects this for chance (1: always the same, 0: as expected by chance): mean "
            f"{kappa.mean:.3f}, from {kappa.min:.3f} to {kappa.max:.3f} (n = {kappa.n} pairs of rounds)."
        )
    else:
        text += " Kappa is undefined, because all rounds predict the same for every pair."
    return [title, *_render_figure("agreement", figures), text]
