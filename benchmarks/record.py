"""The record: trains what ``docs/results/record.md`` shows, and writes that page.

``python benchmarks/record.py`` trains every fit of :data:`FITS` that has not been finished yet, goes on where one was
interrupted, and writes the page from those that are there. ``--only record record_members`` trains some of them;
``--page`` trains none. Nothing is selected here: all settings stand in ``configs/record.yaml`` and
``configs/record_members.yaml``. MNIST is read from ``PAIRS_LIT_DATA``.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tabulate import tabulate

import pairs_lit
from pairs_lit import Run
from pairs_lit.analysis.figures import save
from pairs_lit.runs.folder import LAST, SUMMARY
from pairs_lit.runs.writing import write_text_durably
from pairs_lit.statistics import Summary, between_many, holm, mean_interval, summarise

HERE = Path(__file__).parent.parent
PAGE = HERE / "docs" / "results" / "record.md"
RUNS = HERE / "lightning_logs" / "record"
EXACT, SAMPLED, DIGITS = "test_all_accuracy", "test_accuracy", "test_all_digit_accuracy"
RECORD, MEMBERS = "record", "record_members"


@dataclass(frozen=True)
class Fit:
    """One fit.

    Attributes:
        name: The run's.
        said: What is different, in words.
        rounds: How many, from seed 0.
        changes: What differs from ``configs/record.yaml``.
        config: The configuration.
    """

    name: str
    said: str
    rounds: int
    changes: Mapping[str, object] = field(default_factory=dict)
    config: str = RECORD


def _without(name: str, said: str, changes: Mapping[str, object]) -> Fit:
    return Fit(f"without_{name}", said, 5, changes)


PARTS = [
    _without("augmentation", "no augmentation", {"data.augment": None}),
    _without("elastic", "no elastic fields", {"data.augment.elastic": {}}),
    _without("thickness", "no thickness", {"data.augment.dilate": 0, "data.augment.erode": 0}),
    _without(
        "affine",
        "no shift, rotation, shear, scale",
        {f"data.augment.{name}": 0 for name in ("shift", "rotate", "shear", "log_scale", "anisotropy")},
    ),
    _without("views", "no views in evaluation", {"model.views": None}),
    _without("smoothing", "no label smoothing", {"model.loss.label_smoothing": 0}),
    _without("schedule", "constant learning rate", {"model.lr_scheduler": None}),
    _without("spared_decay", "weight decay of all parameters", {"model.decay": "all"}),
    _without("dropout", "no dropout", {"model.backbone.init_args.flat_dropout": 0}),
    _without("padding", "no padding", {"model.backbone.init_args.paddings": 0}),
    Fit("half_as_long", "half as many epochs", 5, {"trainer.max_epochs": 30}),
    Fit("originals", "warped from the 28×28 originals", 5, {"data.augment.originals": True}),
]
SIZES = [Fit(f"pairs_{count}", f"{count:,} pairs", 5, {"data.train_pairs": count}) for count in (250, 500, 2000, 4000)]
FITS = [Fit(RECORD, "record", 30), Fit(MEMBERS, "members", 30, config=MEMBERS), *PARTS, *SIZES]


def finished(fit: Fit, runs: Path) -> Run | None:
    """Return the run of a fit that has reached its end."""
    found = sorted(path.parent for path in runs.glob(f"lightning_logs/{fit.name}/*/{SUMMARY}"))
    return Run.load(found[-1]) if found else None


def train(fit: Fit, runs: Path) -> None:
    """Train a fit to its end, from where it was interrupted."""
    left = sorted(runs.glob(f"lightning_logs/{fit.name}/*/{LAST}"))
    own: dict[str, object] = {"name": fit.name, "rounds.count": fit.rounds, "trainer.default_root_dir": runs}
    own |= {"ckpt_path": left[-1]} if left else {}
    pairs_lit.fit(fit.config, {**fit.changes, **own})


def percent(values: Sequence[float], *, error: bool = False) -> str:
    """Show mean ± std of accuracies, or of the errors that are left, in percent."""
    shown = summarise([100 * (1 - value if error else value) for value in values])
    return f"{shown.mean:.2f} ± {shown.std:.2f}"


def row(said: str, run: Run) -> list[str]:
    """Return what the tables say of a run."""
    exact, sampled, digits = (list(run.values(name).values()) for name in (EXACT, SAMPLED, DIGITS))
    low, high = (100 * end for end in mean_interval(exact))
    facts = run.facts
    return [
        said,
        str(len(exact)),
        percent(exact),
        f"{low:.2f} to {high:.2f}",
        percent(sampled),
        percent(digits, error=True),
        f"{facts.parameters:,}",
        f"{facts.seconds / len(run.rounds):.0f}",
        ", ".join(facts.commits),
    ]


HEADER = [
    "",
    "n",
    "accuracy over all pairs, %",
    "95 % of the mean",
    "of 1,000 drawn pairs, %",
    "digit error, %",
    "parameters a round",
    "seconds a round",
    "commit",
]


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return a Markdown table."""
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def parts_table(record: Run, runs: Sequence[tuple[Fit, Run]]) -> str:
    """Show what each part brings: the same rounds without it, paired by seed with those of the record."""
    base = record.values(EXACT)
    cases = [(run.values(EXACT), base, True) for _, run in runs]
    found = between_many(cases)
    rows = []
    for (fit, run), (own, _, _), difference, p in zip(
        runs, cases, found, holm([each.p for each in found]), strict=True
    ):
        digits = list(run.values(DIGITS).values())
        points = [f"{100 * value:+.2f}" for value in (difference.estimate, difference.low, difference.high)]
        shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
        rows.append([fit.said, str(len(own)), percent(list(own.values())), points[0], " to ".join(points[1:]), shown])
        rows[-1].append(percent(digits, error=True))
    header = ["", "n", "accuracy over all pairs, %", "− record", "95 %", "p (Holm)", "digit error, %"]
    return table(rows, header)


def size_figure(points: Sequence[tuple[int, Summary]]) -> Figure:
    """Draw the accuracy by the number of training pairs."""
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    counts, means = [count for count, _ in points], [100 * summary.mean for _, summary in points]
    axes.errorbar(counts, means, [100 * summary.std for _, summary in points], fmt="o-", capsize=3)
    axes.set(xscale="log", xlabel="training pairs", ylabel="accuracy over all test pairs, % (mean ± std)")
    axes.set_xticks(counts, [f"{count:,}\n(n = {summary.n})" for count, summary in points])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return figure


def misread(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, torch.Tensor]:
    """Return how many rounds misread each test digit, what most read, the digits' labels and images."""
    trained = run.trained
    bank = trained.data.bank
    images = bank.images_of("test", slice(0, 1))[0]
    grey = bank.images[images] * (255 / bank.top)
    pairs = grey.view(-1, 2, *grey.shape[1:])
    digits = trained.answers(pairs).digits
    assert digits is not None
    read = digits.argmax(-1).flatten(1)
    labels = bank.related(images[None, None].expand(1, 2, -1).mT).digits[0, :, 0]
    wrong = (read != labels).sum(0)
    return wrong.numpy(), read.mode(0).values.numpy(), labels, grey


def misread_figure(run: Run, rows: int = 5, columns: int = 10) -> Figure:
    """Draw the test digits that most rounds misread."""
    wrong, read, labels, images = misread(run)
    order = np.argsort(-wrong, kind="stable")[: rows * columns]
    figure = Figure(figsize=(columns * 0.95, rows * 1.15 + 0.4), layout="constrained")
    for axes, place in zip(figure.subplots(rows, columns).flat, order.tolist(), strict=True):
        axes.imshow(images[place].numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{int(labels[place])}, not {read[place]}: {wrong[place]}", size=7)
        axes.set(xticks=[], yticks=[], frame_on=False)
    n = len(run.trained.seeds)
    figure.suptitle(
        f"The test digits that most of the {n} rounds misread: truth, what is read most, rounds that are wrong. "
        f"Data: {run.data['source']}",
        size=8,
    )
    return figure


def page(runs: Path) -> str:
    """Write the figures, and return the page."""
    there = [(fit, run) for fit in FITS if (run := finished(fit, runs)) is not None]
    by_name = {fit.name: (fit, run) for fit, run in there}
    record = by_name[RECORD][1]
    best = by_name.get(MEMBERS, by_name[RECORD])[1]
    sized = [(fit, run) for fit, run in there if fit in SIZES]
    points = sorted(
        [
            (int(str(run.data["train_pairs"])), summarise(list(run.values(EXACT).values())))
            for _, run in [*sized, (FITS[0], record)]
        ]
    )
    note = "benchmarks/record.py"
    save(size_figure(points), PAGE.with_name("record_pairs.png"), note)
    save(misread_figure(best), PAGE.with_name("record_misread.png"), note)
    titles = {RECORD: "`record.yaml`: one network", MEMBERS: "`record_members.yaml`: several, averaged"}
    rows = [row(titles[name], by_name[name][1]) for name in (RECORD, MEMBERS) if name in by_name]
    parts = [(fit, run) for fit, run in there if fit in PARTS]
    return TEXT.format(
        rows=table(rows, HEADER),
        parts=parts_table(record, parts) if parts else "",
        sizes=table([row(fit.said, run) for fit, run in sized], HEADER) if sized else "",
        source=record.data["source"],
        torch=record.facts.torch,
        shown="record_members" if best is not record else "record",
    )


TEXT = """# The record: 1,000 pairs, 14×14 pixels, all test pairs
"""


def main() -> None:
    """Train what is not there yet; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[fit.name for fit in FITS], help="which fits to train")
    parser.add_argument("--page", action="store_true", help="train nothing")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs are")
    options = parser.parse_args()
    for fit in FITS:
        if fit.name in options.only and not options.page and finished(fit, options.runs) is None:
            train(fit, options.runs)
    write_text_durably(PAGE, page(options.runs))
    print(PAGE)


if __name__ == "__main__":
    main()
