"""Train the fits of the record, and write ``docs/results/record.md``.

``python benchmarks/record.py`` trains every fit of :data:`FITS` that is not finished, resumes interrupted ones, and
writes the page from the finished ones. ``--only record record_members`` trains just these; ``--page`` trains none. Five
rounds form one stack, which one worker trains: to use several cores, run the command once per core, each with other
fits. No setting is chosen here: all are in ``configs/record.yaml`` and ``configs/record_members.yaml``. MNIST is read
from ``PAIRS_LIT_DATA``.
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
from pairs_lit.analysis.comparison_tests import compare_many, compare_rounds, make_decisions
from pairs_lit.analysis.comparison_text import ComparedRun, describe_difference
from pairs_lit.analysis.figures import save_figure
from pairs_lit.analysis.tables import format_p_value
from pairs_lit.runs.atomic_write import write_text_atomically
from pairs_lit.runs.metrics import METRICS_BY_COLUMN
from pairs_lit.runs.run_folder import LAST_CHECKPOINT, SUMMARY_FILE
from pairs_lit.statistics import Summary, summarise

HERE = Path(__file__).parent.parent
PAGE = HERE / "docs" / "results" / "record.md"
RUNS = HERE / "lightning_logs" / "record"
ALL_PAIRS_ACCURACY, SAMPLED_ACCURACY, DIGIT_ACCURACY = "test_all_accuracy", "test_accuracy", "test_all_digit_accuracy"
VALIDATION_ACCURACY, VALIDATION_DIGIT_ACCURACY = "val_all_accuracy", "val_all_digit_accuracy"
RECORD, MEMBERS = "record", "record_members"
TUNING_SEED = 1000
FROZEN_COMMIT = "0e07002bfd"
"""The commit that fixed both configurations, before their test results were read."""


@dataclass(frozen=True)
class Fit:
    """A fit of the record's configuration, or of a variation of it.

    Attributes:
        name: The run's name.
        description: How it differs from the record, in words.
        rounds: The number of rounds.
        changes: The options that differ from the configuration.
        config: The name of the configuration.
        seed: The seed of the first round.
    """

    name: str
    description: str
    rounds: int
    changes: Mapping[str, object] = field(default_factory=dict)
    config: str = RECORD
    seed: int = 0


def _build_fit_without(name: str, said: str, changes: Mapping[str, object]) -> Fit:
    return Fit(f"without_{name}", said, 5, changes)


PARTS = [
    _build_fit_without("augmentation", "no augmentation", {"data.augment": None}),
    _build_fit_without("elastic", "no elastic deformation", {"data.augment.elastic": {}}),
    _build_fit_without("thickness", "no change of thickness", {"data.augment.dilate": 0, "data.augment.erode": 0}),
    _build_fit_without(
        "affine",
        "no shift, rotation, shear and scaling",
        {f"data.augment.{name}": 0 for name in ("shift", "rotate", "shear", "log_scale", "anisotropy")},
    ),
    _build_fit_without("views", "no test-time augmentation", {"model.views": None}),
    _build_fit_without("smoothing", "no label smoothing", {"model.loss.label_smoothing": 0}),
    _build_fit_without("schedule", "constant learning rate", {"model.lr_scheduler": None}),
    _build_fit_without("spared_decay", "weight decay on all parameters", {"model.decay": "all"}),
    _build_fit_without("dropout", "no dropout", {"model.backbone.init_args.flat_dropout": 0}),
    Fit("padded", "padding in all convolutions", 5, {"model.backbone.init_args.paddings": 1}),
    Fit("half_as_long", "half as many epochs", 5, {"trainer.max_epochs": 30}),
    Fit("originals", "augmentation of the 28×28 originals", 5, {"data.augment.originals": True}),
]
_TUNING_CHANGES: Mapping[str, object] = {
    "data.watch_test": False,
    "data.all_pairs": ["val"],
    "model.views": None,
    "rounds.stack_size": 2,
}


def _build_tuning_fit(name: str, said: str, changes: Mapping[str, object]) -> Fit:
    return Fit(f"tuning_{name}", said, 4, {**_TUNING_CHANGES, **changes}, seed=TUNING_SEED)


_COMPARISON_LOSS: dict[str, object] = {"model.loss.target": "bce", "model.loss.target_weight": 0.5}
TUNING = [
    _build_tuning_fit("as_it_is", "baseline: the record without test-time augmentation", {}),
    _build_tuning_fit("forty_epochs", "40 epochs", {"trainer.max_epochs": 40}),
    _build_tuning_fit("bf16", "bfloat16 (`trainer.precision: bf16-mixed`)", {"trainer.precision": "bf16-mixed"}),
    _build_tuning_fit("compared", "also the loss of the comparison, weight 0.5", _COMPARISON_LOSS),
    _build_tuning_fit(
        "mostly_compared",
        "loss of the comparison, weight 1; of the digits, 0.5",
        _COMPARISON_LOSS | {"model.loss.target_weight": 1, "model.loss.aux_weight": 0.5},
    ),
    _build_tuning_fit("more_decay", "weight decay 0.05", {"model.optimizer.init_args.weight_decay": 0.05}),
    _build_tuning_fit("three_members", "three ensemble members", {"model.members": 3}),
    _build_tuning_fit(
        "four_shorter", "four ensemble members, 40 epochs", {"model.members": 4, "trainer.max_epochs": 40}
    ),
]
SIZES = [Fit(f"pairs_{count}", f"{count:,} pairs", 5, {"data.train_pairs": count}) for count in (250, 500, 2000, 4000)]
FITS = [Fit(RECORD, "record", 30), Fit(MEMBERS, "members", 30, config=MEMBERS), *PARTS, *SIZES, *TUNING]


def find_finished_run(fit: Fit, runs: Path) -> Run | None:
    """Return the latest finished run of a fit, or None if there is none."""
    folders = sorted(path.parent for path in runs.glob(f"lightning_logs/{fit.name}/*/{SUMMARY_FILE}"))
    return Run.load(folders[-1]) if folders else None


def train_fit(fit: Fit, runs: Path) -> None:
    """Train a fit, from its last checkpoint if it was interrupted."""
    checkpoints = sorted(runs.glob(f"lightning_logs/{fit.name}/*/{LAST_CHECKPOINT}"))
    options: dict[str, object] = {"name": fit.name, "rounds.count": fit.rounds, "trainer.default_root_dir": runs}
    options |= {"rounds.seed": fit.seed, "data.source": "mnist"}
    options |= {"ckpt_path": checkpoints[-1]} if checkpoints else {}
    pairs_lit.fit(fit.config, {**fit.changes, **options})


def format_percent(values: Sequence[float], *, error: bool = False) -> str:
    """Return mean ± std of accuracies, or of the corresponding errors, as percentages."""
    summary = summarise([100 * (1 - value if error else value) for value in values])
    return f"{summary.mean:.2f} ± {summary.std:.2f}"


def build_row(said: str, run: Run) -> list[str]:
    """Return the row of a run in a table with the columns of :data:`HEADER`."""
    exact, sampled, digits = (
        list(run.values(name).values()) for name in (ALL_PAIRS_ACCURACY, SAMPLED_ACCURACY, DIGIT_ACCURACY)
    )
    low, high = (100 * end for end in summarise(exact).interval)
    facts = run.facts
    return [
        said,
        str(len(exact)),
        format_percent(exact),
        f"{low:.2f} to {high:.2f}",
        format_percent(sampled),
        format_percent(digits, error=True),
        f"{facts.parameters:,}",
        f"{facts.seconds / len(run.rounds):.0f}",
        ", ".join(facts.commits),
    ]


HEADER = [
    "configuration",
    "rounds",
    "accuracy on all pairs, %",
    "95 % interval of the mean",
    "accuracy on 1,000 drawn pairs, %",
    "digit error, %",
    "parameters per round",
    "seconds per round",
    "commit",
]


def describe_gain(record: Run, members: Run) -> str:
    """Return a sentence on the gain of three ensemble members over one, paired by seed."""
    accuracies, base = members.values(ALL_PAIRS_ACCURACY), record.values(ALL_PAIRS_ACCURACY)
    (decision,) = make_decisions([compare_rounds(accuracies, base, same_data=True)])
    sides = ComparedRun("the ensemble of three members"), ComparedRun("the single network")
    sentence = describe_difference(*sides, decision, METRICS_BY_COLUMN[ALL_PAIRS_ACCURACY])
    return f"{sentence[0].upper()}{sentence[1:]}\n"


def render_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return a Markdown table."""
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def render_parts_table(record: Run, runs: Sequence[tuple[Fit, Run]]) -> str:
    """Return a table of what each part of the recipe gains: rounds without it, paired by seed with the record's."""
    base = record.values(ALL_PAIRS_ACCURACY)
    cases = [(run.values(ALL_PAIRS_ACCURACY), base, True) for _, run in runs]
    decisions = make_decisions(compare_many(cases))
    rows, worse = [], list[str]()
    for (fit, run), (accuracies, _, _), decision in zip(runs, cases, decisions, strict=True):
        digits, difference = list(run.values(DIGIT_ACCURACY).values()), decision.difference
        points = [f"{100 * value:+.2f}" for value in (difference.estimate, difference.low, difference.high)]
        compared = [points[0], " to ".join(points[1:]), format_p_value(decision.p_holm)]
        row_start = [fit.description, str(len(accuracies)), format_percent(list(accuracies.values()))]
        rows.append([*row_start, *compared, format_percent(digits, error=True)])
        worse += [fit.description] if decision.sign < 0 else []
    limits = [decision.limit for decision in decisions if decision.limit]
    summary = f"Significantly worse than the record: {'; '.join(worse) or 'none'}."
    notes = [f"No difference can be shown: {limit}." for limit in limits[:1]]
    return "\n\n".join([render_table(rows, PARTS_HEADER), summary, *notes])


PARTS_HEADER = [
    "change",
    "rounds",
    "accuracy on all pairs, %",
    "difference from the record, points",
    "95 % interval of the difference",
    "p (Holm)",
    "digit error, %",
]


def render_tuning_table(runs: Sequence[tuple[Fit, Run]]) -> str:
    """Return a table of the tuning runs on validation digits, with differences from the first run, paired by seed."""
    base = runs[0][1].values(VALIDATION_ACCURACY)
    rows = []
    for fit, run in runs:
        accuracies, digits = run.values(VALIDATION_ACCURACY), run.values(VALIDATION_DIGIT_ACCURACY)
        summary = summarise([100 * (accuracies[seed] - base[seed]) for seed in accuracies])
        difference = f"{summary.mean:+.2f} ± {summary.std:.2f}" if run is not runs[0][1] else ""
        errors = format_percent(list(digits.values()), error=True)
        rows.append(
            [fit.description, str(len(accuracies)), format_percent(list(accuracies.values())), difference, errors]
        )
    return render_table(rows, TUNING_HEADER)


TUNING_HEADER = [
    "change",
    "rounds",
    "validation accuracy on all pairs, %",
    "difference from the baseline, points",
    "digit error, %",
]


def draw_size_figure(points: Sequence[tuple[int, Summary]]) -> Figure:
    """Draw accuracy against the number of training pairs."""
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    counts, means = [count for count, _ in points], [100 * summary.mean for _, summary in points]
    axes.errorbar(counts, means, [100 * summary.std for _, summary in points], fmt="o-", capsize=3)
    axes.set(
        xscale="log", xlabel="training pairs", ylabel="accuracy over all pairs, %", title="mean ± std over n rounds"
    )
    axes.set_xticks(counts, [f"{count:,}\n(n = {summary.n})" for count, summary in points])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return figure


def count_misread(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, torch.Tensor]:
    """Return, for each test digit: how many rounds misread it, their most frequent class, its label and its image."""
    trained = run.trained
    trained.module.views = None  # test-time augmentation of all test images would take about as long as training
    bank = trained.data.bank
    images = bank.get_evaluation_images("test", slice(0, 1))[0]
    grey = bank.images[images] * (255 / bank.max_grey)
    pairs = grey.view(-1, 2, *grey.shape[1:])
    digits = trained.predict(pairs).digits
    assert digits is not None
    read = digits.argmax(-1).flatten(1)
    labels = bank.label_pairs(images[None, None].expand(1, 2, -1).mT).digits[0, :, 0]
    counts = torch.nn.functional.one_hot(read, digits.shape[-1]).sum(0)
    counts[torch.arange(len(labels)), labels] = 0
    return counts.sum(1).numpy(), counts.argmax(1).numpy(), labels, grey


def draw_misread_figure(run: Run, rows: int = 5, columns: int = 10) -> Figure:
    """Draw the test digits that the largest number of rounds misread."""
    wrong, read, labels, images = count_misread(run)
    order = np.argsort(-wrong, kind="stable")[: rows * columns]
    figure = Figure(figsize=(columns * 0.95, rows * 1.15 + 0.4), layout="constrained")
    for axes, place in zip(figure.subplots(rows, columns).flat, order.tolist(), strict=True):
        axes.imshow(images[place].numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{int(labels[place])}, not {read[place]}: {wrong[place]}", size=7)
        axes.set(xticks=[], yticks=[], frame_on=False)
    n = len(run.trained.seeds)
    figure.suptitle(
        f"The test digits that most of the {n} rounds misread, without test-time augmentation: class, most frequent "
        "wrong class, number of rounds that misread it. "
        f"Data: {run.data['source']}",
        size=8,
    )
    return figure


def render_page(runs: Path, output: Path) -> str:
    """Draw the figures into the folder of the page, and return its text."""
    done = {fit.name: (fit, run) for fit in FITS if (run := find_finished_run(fit, runs)) is not None}
    record = done[RECORD][1]
    best = done.get(MEMBERS, done[RECORD])[1]
    parts, sizes, tuning = ([done[fit.name] for fit in fits if fit.name in done] for fits in (PARTS, SIZES, TUNING))
    sizes = sorted([*sizes, done[RECORD]], key=lambda item: int(str(item[1].data["train_pairs"])))
    points = [
        (int(str(run.data["train_pairs"])), summarise(list(run.values(ALL_PAIRS_ACCURACY).values())))
        for _, run in sizes
    ]
    figures = {"misread": draw_misread_figure(best)} | ({"pairs": draw_size_figure(points)} if len(sizes) > 1 else {})
    for name, figure in figures.items():
        save_figure(figure, output.with_name(f"record_{name}.png"), "benchmarks/record.py")
    titles = {RECORD: "`record.yaml`: one network", MEMBERS: "`record_members.yaml`: three networks, averaged"}
    main = [build_row(title, done[name][1]) for name, title in titles.items() if name in done]
    by_size = [build_row(f"{run.data['train_pairs']:,}", run) for _, run in sizes]
    sections = [
        INTRODUCTION_TEXT.format(
            rows=render_table(main, HEADER),
            FROZEN=FROZEN_COMMIT,
            source=record.data["source"],
            torch=record.facts.torch,
        ),
        describe_gain(record, done[MEMBERS][1]) if MEMBERS in done else "",
        TUNING_TEXT.format(first=TUNING_SEED, last=TUNING_SEED + 3, rows=render_tuning_table(tuning)) if tuning else "",
        PARTS_TEXT.format(rows=render_parts_table(record, parts)) if parts else "",
        SIZES_TEXT.format(rows=render_table(by_size, ["training pairs", *HEADER[1:]])) if len(sizes) > 1 else "",
        MISREAD_TEXT.format(name=best.label),
        REPRODUCTION_TEXT,
    ]
    return "\n".join(section for section in sections if section)


INTRODUCTION_TEXT = """# The record: highest accuracy from 1,000 pairs of 14×14 pixels

How well can a network learn to compare two digits from only 1,000 pairs of images of 14×14 pixels? The best result
found elsewhere with a clean protocol is 98.01 ± 0.47 % (10 rounds, with shifted and swapped training pairs), or
97.74 ± 0.55 % without augmentation. Of the rows of the five reports, the best reproduced one is [gardoni's
TransferLearn](gardoni.md) with 97.49 ± 0.79 % (n = 10, 1,000 drawn pairs each).

{rows}

Values are mean ± standard deviation (ddof 1) over the rounds, with seeds from 0; data: {source}; torch {torch}.

- *Accuracy on all pairs* covers the 99,990,000 ordered pairs of two different test images. *Accuracy on 1,000 drawn
  pairs* is that of the test pairs drawn for each round; the draw alone gives it a standard deviation of about 0.26
  points.
- *Digit error* is the error of classifying the 10,000 test images.
- *Seconds per round* is the elapsed time from the first epoch to the end of the evaluation, divided by the number of
  rounds, with two workers and with other processes running for part of the time.
- *Commit* is that of the code that trained the row.

`fit` evaluated the test images only once, after the last epoch (`data.watch_test: end`). Both configurations were
frozen in commit {FROZEN}, before any of their test results were read, and have not changed since.

```
pairs-lit fit --config record
pairs-lit fit --config record_members
```

A round sees 2,000 images of digits of 14×14 pixels, with their labels. It learns to recognise digits; the comparison
follows from the probabilities of both. The network has six 3×3 convolutions with batch norm, dropout, and one linear
layer. It is trained with AdamW, linear warm-up and cosine decay of the learning rate, label smoothing, and images that
are randomly moved, bent and thickened in each epoch ([recipes](../training-recipes.md)). In evaluation, predictions are
averaged over 13 views of each test image (test-time augmentation).
"""

TUNING_TEXT = """## How the settings were chosen

They were chosen on validation digits that occur in no training pair of the round (10,000 of MNIST's training images),
with the seeds {first} to {last}, which are used in no other table. The starting point was the recipe of a prototype.

{rows}

Differences are mean ± standard deviation over rounds paired by seed. Four rounds are too few to show a significant
difference by the rule of [comparing](../comparing.md): the means on validation digits guided the choice, and no row is
claimed to be better.
"""

PARTS_TEXT = """## What each part contributes

Each row is the record's configuration with one change, trained with the same seeds and compared with the record's
rounds of these seeds. p is corrected by Holm's method for the number of rows. A row is called worse only if its
difference is significant by the rule of [comparing](../comparing.md). Rows that have not been trained are left out.

{rows}
"""

SIZES_TEXT = """## With fewer and more pairs

{rows}

![Accuracy by the number of training pairs](record_pairs.png)

The recipe, with its 60 epochs, is the same, so fewer pairs also mean fewer steps. Rows of 5 rounds were trained by one
worker, with other processes running.
"""

MISREAD_TEXT = """## Remaining errors

![The test digits that most rounds misread](record_misread.png)

The test digits that `{name}` misreads most often, without test-time augmentation. Above each digit: its class, the
class that it is most often misread as, and the number of rounds that misread it.
"""

REPRODUCTION_TEXT = """## Reproducing this page

```
python benchmarks/record.py
```

trains the rows that are not finished, resumes interrupted ones, and writes this page.
"""


def main() -> None:
    """Train the fits that are not finished, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[fit.name for fit in FITS], help="fits to train (default: all)")
    parser.add_argument("--page", action="store_true", help="only write the page from finished fits")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs")
    options = parser.parse_args()
    for fit in FITS:
        if fit.name in options.only and not options.page and find_finished_run(fit, options.runs) is None:
            train_fit(fit, options.runs)
    write_text_atomically(PAGE, render_page(options.runs, PAGE))
    print(PAGE)


if __name__ == "__main__":
    main()
