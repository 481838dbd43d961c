"""The record: trains what ``docs/results/record.md`` shows, and writes that page.

``python benchmarks/record.py`` trains every fit of :data:`FITS` that has not been finished yet, goes on where one was
interrupted, and writes the page from those that are there. ``--only record record_members`` trains some of them;
``--page`` trains none. Rows of five rounds are one stack, which one worker trains, as the record's first five rounds
are: start the command once for each core, with other rows. Nothing is selected here: all settings stand in
``configs/record.yaml`` and ``configs/record_members.yaml``. MNIST is read from ``PAIRS_LIT_DATA``.
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
from pairs_lit.analysis.comparison_tests import compare_many, compare_rounds, decide
from pairs_lit.analysis.comparison_text import Side, describe_difference
from pairs_lit.analysis.figures import save
from pairs_lit.analysis.tables import p_value
from pairs_lit.runs.atomic_write import write_text_durably
from pairs_lit.runs.metrics import BY_COLUMN
from pairs_lit.runs.run_folder import LAST, SUMMARY
from pairs_lit.statistics import Summary, summarise

HERE = Path(__file__).parent.parent
PAGE = HERE / "docs" / "results" / "record.md"
RUNS = HERE / "lightning_logs" / "record"
EXACT, SAMPLED, DIGITS = "test_all_accuracy", "test_accuracy", "test_all_digit_accuracy"
VALIDATED, VALIDATED_DIGITS = "val_all_accuracy", "val_all_digit_accuracy"
RECORD, MEMBERS = "record", "record_members"
TUNING_SEED = 1000
FROZEN = "0e07002bfd"
"""The commit that fixed both configurations, before their test figures were read."""


@dataclass(frozen=True)
class Fit:
    """One fit.

    Attributes:
        name: The run's.
        said: What is different, in words.
        rounds: How many.
        changes: What differs from the configuration.
        config: The configuration.
        seed: That of the first round.
    """

    name: str
    said: str
    rounds: int
    changes: Mapping[str, object] = field(default_factory=dict)
    config: str = RECORD
    seed: int = 0


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
    Fit("padded", "padding in all convolutions", 5, {"model.backbone.init_args.paddings": 1}),
    Fit("half_as_long", "half as many epochs", 5, {"trainer.max_epochs": 30}),
    Fit("originals", "warped from the 28×28 originals", 5, {"data.augment.originals": True}),
]
_VALIDATION: Mapping[str, object] = {
    "data.watch_test": False,
    "data.all_pairs": ["val"],
    "model.views": None,
    "rounds.stack_size": 2,
}


def _tuning(name: str, said: str, changes: Mapping[str, object]) -> Fit:
    return Fit(f"tuning_{name}", said, 4, {**_VALIDATION, **changes}, seed=TUNING_SEED)


_COMPARED: dict[str, object] = {"model.loss.target": "bce", "model.loss.target_weight": 0.5}
TUNING = [
    _tuning("as_it_is", "as it is, without views", {}),
    _tuning("forty_epochs", "40 epochs", {"trainer.max_epochs": 40}),
    _tuning("bf16", "bfloat16 (`trainer.precision: bf16-mixed`)", {"trainer.precision": "bf16-mixed"}),
    _tuning("compared", "the comparison's loss, too, weight 0.5", _COMPARED),
    _tuning(
        "mostly_compared",
        "the comparison's loss, weight 1, digits 0.5",
        _COMPARED | {"model.loss.target_weight": 1, "model.loss.aux_weight": 0.5},
    ),
    _tuning("more_decay", "weight decay 0.05", {"model.optimizer.init_args.weight_decay": 0.05}),
    _tuning("three_members", "three members", {"model.members": 3}),
    _tuning("four_shorter", "four members, 40 epochs", {"model.members": 4, "trainer.max_epochs": 40}),
]
SIZES = [Fit(f"pairs_{count}", f"{count:,} pairs", 5, {"data.train_pairs": count}) for count in (250, 500, 2000, 4000)]
FITS = [Fit(RECORD, "record", 30), Fit(MEMBERS, "members", 30, config=MEMBERS), *PARTS, *SIZES, *TUNING]


def finished(fit: Fit, runs: Path) -> Run | None:
    """Return the run of a fit that has reached its end."""
    found = sorted(path.parent for path in runs.glob(f"lightning_logs/{fit.name}/*/{SUMMARY}"))
    return Run.load(found[-1]) if found else None


def train(fit: Fit, runs: Path) -> None:
    """Train a fit to its end, from where it was interrupted."""
    left = sorted(runs.glob(f"lightning_logs/{fit.name}/*/{LAST}"))
    own: dict[str, object] = {"name": fit.name, "rounds.count": fit.rounds, "trainer.default_root_dir": runs}
    own |= {"rounds.seed": fit.seed, "data.source": "mnist"}
    own |= {"ckpt_path": left[-1]} if left else {}
    pairs_lit.fit(fit.config, {**fit.changes, **own})


def percent(values: Sequence[float], *, error: bool = False) -> str:
    """Show mean ± std of accuracies, or of the errors that are left, in percent."""
    shown = summarise([100 * (1 - value if error else value) for value in values])
    return f"{shown.mean:.2f} ± {shown.std:.2f}"


def row(said: str, run: Run) -> list[str]:
    """Return what the tables say of a run."""
    exact, sampled, digits = (list(run.values(name).values()) for name in (EXACT, SAMPLED, DIGITS))
    low, high = (100 * end for end in summarise(exact).interval)
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


def gain(record: Run, members: Run) -> str:
    """Say what members bring, paired by seed."""
    own, base = members.values(EXACT), record.values(EXACT)
    (decision,) = decide([compare_rounds(own, base, same_data=True)])
    sides = Side("the network of three members"), Side("that of one")
    sentence = describe_difference(*sides, decision, BY_COLUMN[EXACT])
    return f"{sentence[0].upper()}{sentence[1:]}\n"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return a Markdown table."""
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def parts_table(record: Run, runs: Sequence[tuple[Fit, Run]]) -> str:
    """Show what each part brings: the same rounds without it, paired by seed with those of the record."""
    base = record.values(EXACT)
    cases = [(run.values(EXACT), base, True) for _, run in runs]
    decisions = decide(compare_many(cases))
    rows, worse = [], list[str]()
    for (fit, run), (own, _, _), decision in zip(runs, cases, decisions, strict=True):
        digits, difference = list(run.values(DIGITS).values()), decision.difference
        points = [f"{100 * value:+.2f}" for value in (difference.estimate, difference.low, difference.high)]
        shown = p_value(decision.p_holm)
        rows.append([fit.said, str(len(own)), percent(list(own.values())), points[0], " to ".join(points[1:]), shown])
        rows[-1].append(percent(digits, error=True))
        worse += [fit.said] if decision.sign < 0 else []
    header = ["", "n", "accuracy over all pairs, %", "− record", "95 %", "p (Holm)", "digit error, %"]
    limits = [decision.limit for decision in decisions if decision.limit]
    said = f"Significantly worse than the record: {', '.join(worse) or 'none'}."
    return "\n\n".join([table(rows, header), said, *(f"No difference can be shown: {limit}." for limit in limits[:1])])


def tuning_table(runs: Sequence[tuple[Fit, Run]]) -> str:
    """Show what the tuning seeds say, on validation digits; the differences are to the first run, paired by seed."""
    base = runs[0][1].values(VALIDATED)
    rows = []
    for fit, run in runs:
        own, digits = run.values(VALIDATED), run.values(VALIDATED_DIGITS)
        found = summarise([100 * (own[seed] - base[seed]) for seed in own])
        shown = f"{found.mean:+.2f} ± {found.std:.2f}" if run is not runs[0][1] else ""
        errors = percent(list(digits.values()), error=True)
        rows.append([fit.said, str(len(own)), percent(list(own.values())), shown, errors])
    return table(rows, ["", "n", "validation accuracy over all pairs, %", "− as it is", "digit error, %"])


def size_figure(points: Sequence[tuple[int, Summary]]) -> Figure:
    """Draw the accuracy by the number of training pairs."""
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


def misread(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, torch.Tensor]:
    """Return how many rounds misread each test digit, without views, as what most of them, labels and images."""
    trained = run.trained
    trained.module.views = None  # all rounds' views of all test images would take as long as some of the training
    bank = trained.data.bank
    images = bank.images_of("test", slice(0, 1))[0]
    grey = bank.images[images] * (255 / bank.top)
    pairs = grey.view(-1, 2, *grey.shape[1:])
    digits = trained.answers(pairs).digits
    assert digits is not None
    read = digits.argmax(-1).flatten(1)
    labels = bank.related(images[None, None].expand(1, 2, -1).mT).digits[0, :, 0]
    counts = torch.nn.functional.one_hot(read, digits.shape[-1]).sum(0)
    counts[torch.arange(len(labels)), labels] = 0
    return counts.sum(1).numpy(), counts.argmax(1).numpy(), labels, grey


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
        f"The test digits that most of the {n} rounds misread, without views: truth, what it is misread as most, "
        "rounds that are wrong. "
        f"Data: {run.data['source']}",
        size=8,
    )
    return figure


def page(runs: Path, output: Path) -> str:
    """Write the figures beside the page, and return the page."""
    there = {fit.name: (fit, run) for fit in FITS if (run := finished(fit, runs)) is not None}
    record = there[RECORD][1]
    shown = there.get(MEMBERS, there[RECORD])[1]
    parts, sizes, tuning = ([there[fit.name] for fit in fits if fit.name in there] for fits in (PARTS, SIZES, TUNING))
    sizes = sorted([*sizes, there[RECORD]], key=lambda each: int(str(each[1].data["train_pairs"])))
    points = [(int(str(run.data["train_pairs"])), summarise(list(run.values(EXACT).values()))) for _, run in sizes]
    figures = {"misread": misread_figure(shown)} | ({"pairs": size_figure(points)} if len(sizes) > 1 else {})
    for name, figure in figures.items():
        save(figure, output.with_name(f"record_{name}.png"), "benchmarks/record.py")
    titles = {RECORD: "`record.yaml`: one network", MEMBERS: "`record_members.yaml`: three, averaged"}
    main = [row(said, there[name][1]) for name, said in titles.items() if name in there]
    by_size = [row(f"{run.data['train_pairs']:,}", run) for _, run in sizes]
    sections = [
        TEXT.format(rows=table(main, HEADER), FROZEN=FROZEN, source=record.data["source"], torch=record.facts.torch),
        gain(record, there[MEMBERS][1]) if MEMBERS in there else "",
        CHOSEN.format(first=TUNING_SEED, last=TUNING_SEED + 3, rows=tuning_table(tuning)) if tuning else "",
        BROUGHT.format(rows=parts_table(record, parts)) if parts else "",
        SIZED.format(rows=table(by_size, ["training pairs", *HEADER[1:]])) if len(sizes) > 1 else "",
        WRONG.format(name=shown.label),
        AGAIN,
    ]
    return "\n".join(section for section in sections if section)


TEXT = """# The record: 1,000 pairs, 14×14 pixels, all test pairs

How well can a network learn to compare two digits from 1,000 pairs of 14×14 pixels, and from nothing else? The best
figure that was found elsewhere with a clean protocol is 98.01 ± 0.47 % (10 rounds, with shifted and swapped training
pairs), 97.74 ± 0.55 % without augmentation; of the five reports' rows, the best of our rounds is [gardoni's
TransferLearn](gardoni.md): 97.49 ± 0.79 % (n = 10, 1,000 drawn pairs each).

{rows}

Mean ± std (ddof 1) over n rounds, seeds from 0; data: {source}; torch {torch}. *All pairs* are the 99,990,000 ordered
pairs of two different test images: accuracy on 1,000 drawn pairs has a standard deviation of about 0.26 points by the
draw alone. The digit error is that of the 10,000 test images. Seconds are the clock's, from the first epoch to the last
figure, divided by the rounds: those of a fit on two workers, while other work went on for part of the time. Test images
were looked at once, after the last epoch, by `fit` itself (`data.watch_test: end`). Both configurations were frozen in
commit {FROZEN}, before any test figure of theirs was read, and have not changed since; the table names the commits
whose code trained.

```
pairs-lit fit --config record
pairs-lit fit --config record_members
```

A round sees 2,000 images of digits, at 14×14 pixels, with their labels. It learns to recognise digits; the comparison
follows from the probabilities of both. Six convolutions 3×3 with batch norm, dropout, one linear layer; AdamW, linear
warm-up and a cosine, label smoothing; images changed at random in each epoch, by moving, bending, thickening
([recipes](../training-recipes.md)); 13 views of each test image.
"""

CHOSEN = """## How it was chosen

On validation digits that no training pair of the round shows (10,000 training images of MNIST), with the seeds
{first} to {last}, which no other table has. The starting point was a prototype's recipe.

{rows}

Differences are paired by seed. Four seeds cannot show any of them by the rule of [comparing](../comparing.md): means
on validation digits guided the choice, and no row is called better here.
"""

BROUGHT = """## What each part brings

Each row is the record's configuration with one change, on the same seeds, paired with the record's rounds. A row is
called worse only by the rule of [comparing](../comparing.md). Rows that have not been trained yet are left out.

{rows}
"""

SIZED = """## With fewer and more pairs

{rows}

![Accuracy by the number of training pairs](record_pairs.png)

The same recipe, 60 epochs, so fewer pairs are also fewer steps. Where n is 5, seconds are those of one worker beside
other work.
"""

WRONG = """## What is still wrong

![The test digits that most rounds misread](record_misread.png)

Of `{name}`, without views: each digit with its class, what it is misread as most, and how many
rounds misread it.
"""

AGAIN = """## Make it again

```
python benchmarks/record.py
```

trains every row that is not there yet, goes on where it was interrupted, and writes this page.
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
    write_text_durably(PAGE, page(options.runs, PAGE))
    print(PAGE)


if __name__ == "__main__":
    main()
