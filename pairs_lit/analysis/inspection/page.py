"""The page of an inspection: its figures with captions, and its numbers as tables."""

import re
from collections.abc import Collection, Sequence

from pairs_lit.analysis.inspection.figures import readings
from pairs_lit.analysis.inspection.numbers import BINS, FEW_PAIRS, MOST_COMPARED, HardPair, Inspection
from pairs_lit.analysis.tables import decimal, interval, mean_and_std, summary_table, table
from pairs_lit.relation import sign_of
from pairs_lit.statistics import LEVEL
from pairs_lit.text import counted, printable

MARK = "Made by pairs-lit inspect"
"""What the files of an inspection say of themselves, so that no other file is taken for one."""

_MOST_ROUNDS = 12  # of more rounds, a pair's P are summarised


def page(found: Inspection, figures: Collection[str]) -> str:
    """Return the page in Markdown.

    Args:
        found: What was found.
        figures: The names of the figures that lie beside it, as PNG files.
    """
    pairs = "n counts rounds; of agreement and kappa, pairs of rounds" if found.agreement else "n counts rounds"
    parts = [
        f"<!-- {MARK}; the next call writes it anew. -->",
        f"# {_plain(found.label)}, inspected",
        _introduction(found),
        summary_table(found.summaries(), style="github"),
        f"Std with ddof 1; {pairs}.",
        *_learning(found, figures),
        *_hardest(found, figures),
        *_confusion(found, figures),
        *_distances(found),
        *_classes(found),
        *_calibration(found),
        *_agreement(found, figures),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Keep Markdown from taking a name from elsewhere for more than a name."""
    return re.sub(r"([\\`*\[\]<>|!#&~_])", r"\\\1", printable(text))


def _introduction(found: Inspection) -> str:
    relation = f"first {sign_of(found.relation)} second"
    text = (
        f"Made by `pairs-lit inspect`: {_plain(found.basis)}; relation: {relation}. All rounds are shown the same "
        f"pairs, the test pairs of seed {found.pair_seed}, as `pairs-lit predict` does; they are only evaluated. So "
        "the accuracy of the other rounds differs from that in `rounds.csv`, which is on the test pairs of each "
        "round's own."
    )
    if found.failed:
        seeds = ", ".join(map(str, found.failed))
        rounds = counted(len(found.curves.seeds), "round")
        text += f" **{len(found.failed)} of {rounds} FAILED** (seed {seeds}): only in the learning curves."
    if found.class_names:
        text += (
            f" The relation compares the places of the classes in this order: {', '.join(map(_plain, found.names))}."
        )
    return text


def _rounds(found: Inspection) -> str:
    return counted(len(found.said.seeds), "round")


def _figure(name: str, figures: Collection[str]) -> list[str]:
    return [f"![{name.replace('-', ' ')}]({name}.png)"] if name in figures else []


def _learning(found: Inspection, figures: Collection[str]) -> list[str]:
    failed = len(found.failed)
    text = (
        f"Accuracy and loss by epoch, as in `curves.csv`: {_rounds(found)}, thin, and the mean, thick. Training "
        "figures are averages over the epoch while the network changes; the others are measured after it, on each "
        "round's own pairs."
    )
    if failed:
        text += f" Those that failed ({failed}) are dotted, end in a cross, and are not in the mean."
    return ["## Learning curves", *_figure("learning-curves", figures), text]


def _hardest(found: Inspection, figures: Collection[str]) -> list[str]:
    title = "## The hardest pairs"
    if not found.hardest:
        return [title, f"Of {len(found.said.target)} pairs, none is answered wrongly ({_rounds(found)})."]
    wrong, n = (~found.said.right).sum(0), len(found.said.seeds)
    most = int((wrong > n / 2).sum())
    text = (
        f"Of {len(wrong)} pairs, {int((wrong == 0).sum())} are answered rightly by all ({_rounds(found)}), {most} "
        f"wrongly by more than half of them, {int((wrong == n).sum())} wrongly by all. Below, the {len(found.hardest)} "
        "that most rounds get wrong, as the network sees them."
    )
    if found.confusion is not None:
        text += " Below each image: the classes read, and by how many rounds."
    each = n <= _MOST_ROUNDS
    sign = sign_of(found.relation)
    header = ["pair", f"first {sign} second", "truth", "wrong in", "read", "mean P"]
    header += [f"P, seed {seed}" for seed in found.said.seeds] if each else ["least P", "greatest P"]
    names = [_plain(name) for name in found.names]
    rows = [_hard_row(pair, sign, names, each=each) for pair in found.hardest]
    note = f"Pairs are counted as in `predictions.csv`; P is P(first {sign} second), n = {_rounds(found)}."
    return [title, text, *_figure("hardest-pairs", figures), table(header, rows, "github"), note]


def _hard_row(pair: HardPair, sign: str, names: Sequence[str], *, each: bool) -> list[str]:
    read = "–" if pair.read is None else "; ".join(readings(counts, names) for counts in pair.read)
    p = pair.probability
    shown = p.tolist() if each else [p.min(), p.max()]
    first, second = (names[place] for place in pair.digits)
    known = [str(pair.place), f"{first} {sign} {second}", "yes" if pair.holds else "no", f"{pair.wrong} of {len(p)}"]
    return [*known, read, f"{p.mean():.3f}", *(f"{value:.3f}" for value in shown)]


def _confusion(found: Inspection, figures: Collection[str]) -> list[str]:
    title = "## Which digits are read as which"
    if found.confusion is None:
        return [title, "The network does not read digits."]
    counts, size = found.confusion.counts, found.said.classes
    text = (
        f"Rows: the true class; columns: the class read. In a cell, the share of the true class in % and the count: "
        f"{int(counts.sum())} readings ({_rounds(found)} × {len(found.said.target)} pairs × 2 images). "
        f"Digit accuracy {mean_and_std(found.confusion.accuracy)}."
    )
    if found.confusion.accuracy.mean < 2 / size:
        text += f" Guessing has {1 / size:.4f}: this network was hardly trained to name digits."
    names = [_plain(name) for name in found.names]
    rows = [[name, *map(str, row)] for name, row in zip(names, counts.tolist(), strict=True)]
    return [title, *_figure("digit-confusion", figures), text, table(["true \\ read", *names], rows, "github")]


def _distances(found: Inspection) -> list[str]:
    rows = []
    for each in found.distances:
        figures = decimal(each.accuracy.mean), decimal(each.accuracy.std), interval(*each.accuracy.interval)
        rows.append([each.distance, each.pairs, *figures])
    apart = "lie so far apart in their order" if found.class_names else "differ by so much"
    header = ["distance", "pairs", "mean accuracy", "std", "95 % interval"]
    text = (
        f"Accuracy on the pairs whose classes {apart}: mean over {_rounds(found)}, bars: Student's "
        f"{100 * (1 - LEVEL):.0f} % interval of the mean over the rounds. It says how other rounds would do on these "
        "very pairs, not on others: a point of few pairs is uncertain beyond its bar."
    )
    figure = "![accuracy by distance](accuracy-by-distance.png)"
    return ["## Accuracy by |first − second|", figure, text, table(header, rows, "github")]


def _classes(found: Inspection) -> list[str]:
    known = found.class_pairs.pairs[found.class_pairs.pairs > 0]
    text = (
        f"Rows: the first digit's class; columns: the second's. In a cell, the accuracy in % over "
        f"{_rounds(found)} and the number of pairs ({known.min()} to {known.max()}); cells of fewer "
        f"than {FEW_PAIRS} pairs are hatched, those without pairs grey."
    )
    return ["## Accuracy by classes", "![accuracy by classes](accuracy-by-classes.png)", text]


def _calibration(found: Inspection) -> list[str]:
    each = found.calibration
    relation = f"P(first {sign_of(found.relation)} second)"
    text = (
        f"Of the pairs of which a round says that the relation holds with probability p, in which share does it hold? "
        f"{int(each.counts.sum())} answers of {_rounds(found)} in {BINS} bins of equal width; points "
        "stand at the mean P of their bin, bars: 95 % interval over rounds; below, how many answers a bin has.\n\n"
        f"Expected calibration error, the mean gap of the {BINS} bins weighted by their answers, of each round: of the "
        f"confidence of the answers, max(P, 1 − P), against the share of right ones, {mean_and_std(each.error)}; of "
        f"{relation} against the share of pairs for which it holds, {mean_and_std(each.relation_error)}. A finite "
        "sample of perfectly calibrated answers has an error above 0, too."
    )
    return ["## Calibration", "![calibration](calibration.png)", text]


def _agreement(found: Inspection, figures: Collection[str]) -> list[str]:
    title, each = "## How well rounds agree", found.agreement
    if each is None:
        return [title, "One round has none to agree with."]
    first = f"the first {MOST_COMPARED} of them" if each.rounds < len(found.said.seeds) else f"all {each.rounds} rounds"
    text = (
        f"Two rounds answer {100 * each.share.mean:.1f} % of the {len(found.said.target)} pairs alike ({each.share.n} "
        f"pairs of rounds among {first}; from {100 * each.share.min:.1f} to {100 * each.share.max:.1f} %)."
    )
    if each.kappa.n:
        text += (
            f" Corrected for chance (Cohen's kappa; 1: always alike, 0: as by chance): mean {each.kappa.mean:.3f}, "
            f"from {each.kappa.min:.3f} to {each.kappa.max:.3f} (n = {each.kappa.n} pairs of rounds)."
        )
    else:
        text += " Kappa is not defined: all rounds give one and the same answer to every pair."
    return [title, *_figure("agreement", figures), text]
