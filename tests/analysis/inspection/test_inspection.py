"""``pairs-lit inspect``: its statistics against simple reference computations, its figures and its files."""

import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchmetrics.classification import BinaryCalibrationError

import pairs_lit
from pairs_lit.analysis.inspection import numbers as inspection
from pairs_lit.analysis.inspection.figures import (
    draw_accuracy_by_classes,
    draw_accuracy_by_distance,
    draw_agreement,
    draw_confusion,
    draw_hardest_pairs,
    draw_inspection,
    draw_learning_curves,
    draw_reliability,
    format_readings,
)
from pairs_lit.analysis.inspection.numbers import (
    Inspection,
    PairPredictions,
    compute_accuracy_by_classes,
    compute_accuracy_by_distance,
    compute_agreement,
    compute_calibration,
    compute_confusion,
)
from pairs_lit.analysis.inspection.page import render_page
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.runs.tables import Curves
from tests.support.small_runs import SMALL

ROUNDS, PAIRS, K = 6, 400, 7


def said(rounds: int = ROUNDS, pairs: int = PAIRS, *, reads: bool = True) -> PairPredictions:
    """Return random predictions for K classes that are correct more often than not."""
    rng = np.random.default_rng(rounds)
    digits = rng.integers(0, K, (pairs, 2))
    target = digits[:, 0] <= digits[:, 1]
    probability = np.clip(rng.beta(2, 3, (rounds, pairs)), 0.001, 0.999)
    probability = np.where(target, 1 - probability, probability)
    read = np.where(rng.random((rounds, pairs, 2)) < 0.7, digits, rng.integers(0, K, (rounds, pairs, 2)))
    seeds = list(range(3, 3 + rounds))
    return PairPredictions(seeds, K, digits, target, probability, probability > 0.5, read if reads else None)


def test_the_hardest_pairs_are_those_that_most_rounds_get_wrong() -> None:
    predictions = said()
    wrong = [
        sum(bool(d) != bool(t) for d in column)
        for column, t in zip(predictions.decision.T, predictions.target, strict=True)
    ]
    result = inspection.find_hardest_pairs(predictions, 10)
    assert [pair.num_wrong for pair in result] == sorted(wrong, reverse=True)[:10]
    for pair in result:
        assert pair.num_wrong == wrong[pair.index]
        assert pair.digits == tuple(predictions.digits[pair.index])
        assert pair.holds == predictions.target[pair.index]
        np.testing.assert_array_equal(pair.probability, predictions.probability[:, pair.index])
        for image in (0, 1):
            readings_of = predictions.read_classes[:, pair.index, image].tolist()
            assert [readings_of.count(digit) for digit in range(K)] == pair.read_counts[image].tolist()
        assert pair.correct.tolist() == (predictions.decision[:, pair.index] == predictions.target[pair.index]).tolist()
    trust = [np.mean(pair.probability if not pair.holds else 1 - pair.probability) for pair in result]
    for one, two in zip(range(9), range(1, 10), strict=True):
        assert result[one].num_wrong > result[two].num_wrong or trust[one] >= trust[two]


def test_pairs_that_all_get_right_are_not_hard() -> None:
    predictions = said()
    perfect = replace(predictions, decision=np.broadcast_to(predictions.target, predictions.decision.shape))
    assert inspection.find_hardest_pairs(perfect, 5) == []


def test_the_confusion_is_sklearns() -> None:
    predictions = said()
    result = compute_confusion(predictions)
    assert result is not None
    true = np.broadcast_to(predictions.digits, predictions.read_classes.shape).ravel()
    np.testing.assert_array_equal(
        result.counts, confusion_matrix(true, predictions.read_classes.ravel(), labels=range(K))
    )
    shares = confusion_matrix(true, predictions.read_classes.ravel(), labels=range(K), normalize="true")
    np.testing.assert_allclose(result.shares, shares)
    round_accuracies = [float((read == predictions.digits).mean()) for read in predictions.read_classes]
    assert (result.accuracy.n, result.accuracy.mean) == (ROUNDS, pytest.approx(np.mean(round_accuracies)))
    assert result.accuracy.std == pytest.approx(np.std(round_accuracies, ddof=1))
    assert compute_confusion(said(reads=False)) is None


def test_a_class_without_images_has_no_shares() -> None:
    predictions = replace(said(), num_classes=K + 1)
    result = compute_confusion(predictions)
    assert np.isnan(result.shares[K]).all()
    assert result.counts.shape == (K + 1, K + 1)


def test_accuracy_by_distance_is_counted_pair_by_pair() -> None:
    predictions = said()
    result = compute_accuracy_by_distance(predictions)
    assert [row.distance for row in result] == list(range(K))
    assert sum(row.pairs for row in result) == PAIRS
    for row in result:
        is_distance = [abs(int(a) - int(b)) == row.distance for a, b in predictions.digits]
        values = [np.mean((decision == predictions.target)[is_distance]) for decision in predictions.decision]
        assert row.accuracy.mean == pytest.approx(np.mean(values))
        expected = stats.t.interval(0.95, ROUNDS - 1, np.mean(values), stats.sem(values))
        assert row.accuracy.interval == pytest.approx(expected)


def test_accuracy_by_classes_is_counted_pair_by_pair() -> None:
    predictions = said(pairs=60)  # few pairs leave some cells empty
    result = compute_accuracy_by_classes(predictions)
    right = predictions.decision == predictions.target
    for first in range(K):
        for second in range(K):
            is_class_pair = (predictions.digits == (first, second)).all(1)
            assert result.pairs[first, second] == is_class_pair.sum()
            expected = right[:, is_class_pair].mean() if is_class_pair.any() else np.nan
            np.testing.assert_allclose(result.accuracy[first, second], expected)
    assert (result.pairs == 0).any()


def test_calibration_errors_are_those_of_torchmetrics() -> None:
    predictions = said()
    result = compute_calibration(predictions)
    metric = BinaryCalibrationError(n_bins=inspection.NUM_BINS, norm="l1")
    answers, relation = [], []
    for p, right in zip(torch.from_numpy(predictions.probability), torch.from_numpy(predictions.correct), strict=True):
        answers.append(float(metric(torch.maximum(p, 1 - p), right.long())))
        relation.append(float(metric(p, torch.from_numpy(predictions.target).long())))
    for summary, expected in ((result.error, answers), (result.relation_error, relation)):
        assert summary.mean == pytest.approx(np.mean(expected), abs=1e-6)
        assert summary.std == pytest.approx(np.std(expected, ddof=1), abs=1e-6)
        assert summary.n == ROUNDS


def test_bins_match_a_hand_worked_case_with_both_ends() -> None:
    probability = np.array([[0.0, 0.05, 0.5, 1.0]])  # bins 0, 0, 7, 14
    counts, mean, share = inspection.bin_probabilities(probability, np.array([[False, True, True, True]]))
    assert counts[0].nonzero()[0].tolist() == [0, 7, 14]
    assert mean[0, [0, 7, 14]] == pytest.approx([0.025, 0.5, 1.0])
    assert share[0, [0, 7, 14]] == pytest.approx([0.5, 1.0, 1.0])
    assert np.isnan(share[0, 1])
    error = inspection.compute_expected_error(counts, mean, share)
    assert error == pytest.approx([(2 * 0.475 + 1 * 0.5 + 1 * 0) / 4])


def test_the_interval_of_a_bin_is_that_of_a_ratio_over_rounds() -> None:
    result = compute_calibration(said())
    _, share, counts = result.pooled
    for place in np.flatnonzero(counts > 0):
        n, hits = result.counts[:, place], np.nan_to_num(result.share[:, place]) * result.counts[:, place]
        assert share[place] == pytest.approx(hits.sum() / n.sum())
        error = np.std(hits - share[place] * n, ddof=1) * np.sqrt(ROUNDS) / n.sum()  # the residuals' mean is 0
        assert result.half_widths[place] == pytest.approx(stats.t.ppf(0.975, ROUNDS - 1) * error)
    assert np.isnan(compute_calibration(said(1)).half_widths).all()


def test_agreement_and_kappa_are_those_of_every_two_rounds() -> None:
    predictions = said()
    result = compute_agreement(predictions)
    assert result is not None
    alike, kappas = [], []
    for one in range(ROUNDS):
        for two in range(one + 1, ROUNDS):
            alike.append(np.mean(predictions.decision[one] == predictions.decision[two]))
            kappas.append(cohen_kappa_score(predictions.decision[one], predictions.decision[two]))
            assert result.shares[one, two] == result.shares[two, one] == pytest.approx(alike[-1])
    for summary, values in ((result.share, alike), (result.kappa, kappas)):
        assert (summary.n, summary.mean) == (15, pytest.approx(np.mean(values)))
        assert (summary.min, summary.max) == pytest.approx((min(values), max(values)))


def test_rounds_that_always_say_yes_agree_without_kappa() -> None:
    predictions = said(3)
    result = compute_agreement(replace(predictions, decision=np.ones_like(predictions.decision)))
    assert (result.share.mean, result.kappa.n) == (1.0, 0)
    assert compute_agreement(said(1)) is None


def test_only_the_first_of_very_many_rounds_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MAX_COMPARED_ROUNDS", 4)
    predictions = said()
    result = compute_agreement(predictions)
    assert (result.num_rounds, result.share.n) == (4, 6)
    first = replace(predictions, seeds=predictions.seeds[:4], decision=predictions.decision[:4])
    assert result.share == compute_agreement(first).share


# --- figures


def cells(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_confusion_is_drawn_with_its_errors_in_colour() -> None:
    result = compute_confusion(said())
    axes, _ = draw_confusion(result).axes
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    expected = 100 * result.shares
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(drawn, expected)
    assert cells(axes)[0] == f"{100 * result.shares[0, 0]:.1f}\n{result.counts[0, 0]}"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "read")


def test_accuracy_by_distance_is_drawn_with_interval_and_pairs() -> None:
    result = compute_accuracy_by_distance(said())
    (axes,) = draw_accuracy_by_distance(result).axes
    (container,) = axes.containers
    np.testing.assert_allclose(container.lines[0].get_ydata(), [row.accuracy.mean for row in result])
    bars = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [row.accuracy.interval for row in result])
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == [f"{row.distance}\n({row.pairs})" for row in result]


def test_accuracy_by_classes_marks_cells_of_few_pairs() -> None:
    result = compute_accuracy_by_classes(said(pairs=150))
    axes, _ = draw_accuracy_by_classes(result).axes
    np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), 100 * result.accuracy)
    few = {(round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)) for patch in axes.patches}
    assert few == set(map(tuple, np.argwhere((result.pairs > 0) & (result.pairs < 5)).tolist()))
    assert few
    assert "hatched: fewer than 5 pairs" in axes.get_xlabel()


def test_the_reliability_diagram_is_drawn_from_the_bins() -> None:
    result = compute_calibration(said())
    top, bottom = draw_reliability(result, "ge").axes
    probability, share, counts = result.pooled
    some = counts > 0
    line = top.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), np.stack([probability[some], share[some]], 1))
    (stairs,) = bottom.patches
    np.testing.assert_allclose(stairs.get_data().values, 100 * counts / (ROUNDS * PAIRS))
    assert bottom.get_xlabel() == "P(first ≥ second)"


def test_agreement_is_a_heat_map_of_few_rounds_and_a_histogram_of_many() -> None:
    few, many = said(), said(25)
    axes, _ = draw_agreement(compute_agreement(few), few.seeds).axes
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn[0, 1], 100 * np.mean(few.decision[0] == few.decision[1]))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(map(str, few.seeds))
    (axes,) = draw_agreement(compute_agreement(many), many.seeds).axes
    assert sum(bar.get_height() for bar in axes.patches) == 25 * 24 / 2


def test_hard_pairs_are_drawn_with_their_predictions() -> None:
    result = inspection.find_hardest_pairs(said(), 5)
    images = np.random.default_rng(0).random((5, 2, 14, 14))
    figure = draw_hardest_pairs(result, images, "le")
    assert len(figure.axes) == 10
    for pair, both, above, below in zip(result, images, figure.axes[::2], figure.axes[1::2], strict=True):
        shown = above.images[0].get_array()
        np.testing.assert_allclose(shown[:, :14], both[0])
        np.testing.assert_allclose(shown[:, -14:], both[1])
        first, second = pair.digits
        truth = "yes" if first <= second else "no"
        assert above.get_title() == f"{first} ≤ {second}: {truth}; wrong in {pair.num_wrong} of {ROUNDS}"
        assert (
            above.get_xlabel() == f"{format_readings(pair.read_counts[0])}  |  {format_readings(pair.read_counts[1])}"
        )
        right, wrong = [line.get_xdata() for line in below.get_lines() if line.get_marker() == "o"]
        assert sorted([*right, *wrong]) == sorted(pair.probability)
        assert len(wrong) == pair.num_wrong


def test_readings_begin_with_the_most_frequent() -> None:
    assert format_readings(np.array([0, 2, 5, 0])) == "2 (5×), 1 (2×)"
    assert format_readings(np.array([1, 2, 5, 0])) == "2 (5×), 1 (2×) …"


def test_learning_curves_show_each_round_their_mean_and_those_that_failed() -> None:
    accuracy = np.array([[0.5, 0.6, 0.1, 0.2], [0.7, 0.9, np.nan, 0.2], [0.8, 0.9, np.nan, 0.2]])
    curves = Curves(
        [0, 1, 2, 3], {f"{split}/accuracy": accuracy for split in ("train", "val")} | {"val/loss": accuracy}
    )
    axes = draw_learning_curves(curves, [2, 3]).axes
    assert [each.get_title() for each in axes] == ["training", "validation", "", ""]
    lines = axes[0].get_lines()
    np.testing.assert_allclose(np.stack([line.get_ydata() for line in lines[:2]], 1), accuracy[:, :2])
    np.testing.assert_allclose(lines[2].get_ydata(), accuracy[:, :2].mean(1))
    np.testing.assert_allclose(np.stack([line.get_ydata() for line in lines[3:]], 1), accuracy[:, 2:])
    assert [line.get_markevery() for line in lines[3:]] == [[0], [2]]
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert texts == ["each of 2 rounds", "mean (n = 2)", "failed (2)"]
    assert not axes[2].get_lines()  # no training loss was given


# --- runs


CASES: dict[str, tuple[str, dict[str, object]]] = {
    "aux, standard": ("cnn_aux", {"data.normalise": "standard"}),
    "joint, one round, gt": (
        "fc",
        {
            "model.sharing": "joint",
            "model.readout": "none",
            "model.loss.digits": "none",
            "data.relation": "gt",
            "rounds.count": 1,
            "data.image_size": 28,
        },
    ),
    "digit head, ge": ("reports/grall/b_classes_ce", {"data.relation": "ge", "data.normalise": "unit"}),
    "a round fails": ("fc_aux", {"model.backbone": "tests.support.user_parts.BreaksForSeedOne", "rounds.seed": 0}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pairs_lit.Run]:
    """Fit each case once, and give each test its own copy."""
    root, made = tmp_path_factory.mktemp("runs"), dict[str, Path]()

    def run(case: str) -> pairs_lit.Run:
        config, changes = CASES[case]
        if case not in made:
            changes = {**SMALL, "trainer.default_root_dir": root, **changes}
            made[case] = pairs_lit.fit(config, changes).folder
        copy = tmp_path_factory.mktemp("copy") / "lightning_logs" / "x" / made[case].name
        shutil.copytree(made[case], copy)
        return pairs_lit.Run.load(copy)

    return run


def figures_beside(run: pairs_lit.Run) -> set[str]:
    return {path.stem for path in (run.folder / "inspect").glob("*.png")}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.quick(1)
def test_predictions_match_those_of_the_networks(runs: Callable[[str], pairs_lit.Run], case: str) -> None:
    run = runs(case)
    result = pairs_lit.inspect_run(run, pairs=4)
    bank = run.trained.data.bank
    pairs = bank.pairs["test"]
    np.testing.assert_array_equal(result.predictions.digits, pairs.digits[0])
    np.testing.assert_array_equal(result.predictions.target, pairs.target[0])
    assert result.predictions.num_classes == 10
    for place, seed in enumerate(result.predictions.seeds):
        where = run.trained.seeds.index(seed)
        images = bank.gather_images(pairs.index[:1].expand(len(run.trained.seeds), -1, -1), slice(None))[where]
        answer = run.network(seed)(images)
        p, digits = answer if isinstance(answer, tuple) else (answer, None)
        np.testing.assert_allclose(result.predictions.probability[place], p.detach(), atol=1e-5)
        if result.predictions.read_classes is not None:
            np.testing.assert_array_equal(result.predictions.read_classes[place], digits.argmax(-1))
    first = result.predictions.seeds[0]
    if first == result.pair_seed:  # these are this round's own test pairs
        assert result.predictions.correct[0].mean() == pytest.approx(run.values("test_accuracy")[first])
    left_out = set() if result.confusion else {"digit-confusion"}
    left_out |= {"agreement"} if len(result.predictions.seeds) == 1 else set()
    assert figures_beside(run) == set(draw_inspection(result)) == {*FIGURES} - left_out
    assert str(result.predictions.accuracy.n) in (run.folder / "inspect/report.md").read_text()


FIGURES = (
    "learning-curves",
    "hardest-pairs",
    "digit-confusion",
    "accuracy-by-distance",
    "accuracy-by-classes",
    "calibration",
    "agreement",
)


@pytest.mark.slow
def test_a_round_that_failed_is_named_and_left_out(runs: Callable[[str], pairs_lit.Run]) -> None:
    run = runs("a round fails")
    result = pairs_lit.inspect_run(run)
    assert str(result).startswith("x: 2 rounds (1 more failed), 30 test pairs of seed 0, data: digits\n\n")
    assert "accuracy on these pairs" in str(result)
    assert (result.failed, result.predictions.seeds) == ([1], [0, 2])
    assert result.basis == "2 rounds (1 more failed), 30 test pairs of seed 0, data: digits"
    text = (run.folder / "inspect/report.md").read_text()
    assert "**1 of 3 rounds FAILED** (seed 1) and appear only in" in text
    assert "Failed rounds (1) are dotted" in text


def test_run_with_only_failed_rounds_cannot_be_inspected(runs: Callable[[str], pairs_lit.Run]) -> None:
    run = runs("aux, standard")
    lost = replace(run, rounds=[replace(each, status="failed") for each in run.rounds])
    with pytest.raises(PairsLitError, match=r"^every round of .* failed \(loss not finite\)\. Only its curves"):
        pairs_lit.inspect_run(lost)
    assert not (run.folder / "inspect").exists()


@pytest.mark.slow
def test_images_are_those_that_the_source_has(runs: Callable[[str], pairs_lit.Run]) -> None:
    for case in ("aux, standard", "digit head, ge"):
        run = runs(case)
        result = pairs_lit.inspect_run(run, pairs=3, write=False)
        assert not (run.folder / "inspect").exists()
        bank = run.trained.data.bank
        grey = bank.images * (255 if case == "digit head, ge" else 1)
        for pair, both in zip(result.hardest, result.images, strict=True):
            expected = grey[bank.pairs["test"].index[0, pair.index]] / 255
            np.testing.assert_allclose(both, expected, atol=1e-6)
        assert result.images.max() > 0.5


def scalars_of(run: pairs_lit.Run) -> EventAccumulator:
    return EventAccumulator(str(run.folder), size_guidance={"images": 0, "scalars": 0}).Reload()


@pytest.mark.slow
def test_second_call_overwrites_only_its_own_files(
    runs: Callable[[str], pairs_lit.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs("aux, standard")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    curves = {tag: scalars_of(run).Scalars(tag) for tag in scalars_of(run).Tags()["scalars"]}
    assert main(["inspect", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert "3 rounds, 30 test pairs of seed 4, data: digits" in out
    assert f"report: {run.folder / 'inspect' / 'report.md'}" in out
    page_before = (run.folder / "inspect/report.md").read_bytes()
    mine = run.folder / "inspect/mine.txt"
    mine.write_text("mine")
    assert main(["inspect", str(run.folder)]) == 0
    assert mine.read_text() == "mine"
    assert (run.folder / "inspect/report.md").read_bytes() == page_before
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(run.folder.glob("events.out.tfevents.*.inspect"))) == 1
    events = scalars_of(run)
    assert {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]} == curves
    assert set(events.Tags()["images"]) == {f"inspect/{name}" for name in FIGURES}
    assert all(len(events.Images(tag)) == 1 for tag in events.Tags()["images"])
    assert not list(run.folder.rglob(".*.????????????????????????????????"))


def test_user_file_is_not_overwritten(runs: Callable[[str], pairs_lit.Run]) -> None:
    run = runs("aux, standard")
    report = run.folder / "inspect/report.md"
    report.parent.mkdir()
    report.write_text("my notes")
    with pytest.raises(PairsLitError, match=r"report\.md exists, but pairs-lit inspect did not write it\. Move it"):
        pairs_lit.inspect_run(run)
    assert [path.name for path in report.parent.iterdir()] == ["report.md"]
    assert report.read_text() == "my notes"


@pytest.mark.slow
def test_outdated_figure_is_removed(runs: Callable[[str], pairs_lit.Run]) -> None:
    run = runs("joint, one round, gt")
    pairs_lit.inspect_run(run)
    shutil.copy(
        run.folder / "inspect/calibration.png", run.folder / "inspect/agreement.png"
    )  # as if an earlier call had written it
    pairs_lit.inspect_run(run)
    assert "agreement" not in figures_beside(run)


def test_missing_files_give_one_line_errors(
    runs: Callable[[str], pairs_lit.Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs("aux, standard")
    assert main(["inspect", str(run.folder), "--pairs", "0"]) == 2
    assert "pairs must be 1 or more, got 0" in capsys.readouterr().err
    other = replace(run, data={**run.data, "source": "mnist"})
    with pytest.raises(
        PairsLitError, match=r"was trained on mnist, but data\.root now holds digits\. Put the original data back"
    ):
        pairs_lit.inspect_run(other)
    (run.folder / "checkpoints/last.ckpt").unlink()
    assert main(["inspect", str(run.folder)]) == 2
    err = capsys.readouterr().err
    assert "has no checkpoints/last.ckpt" in err
    assert "Traceback" not in err
    assert main(["inspect", "nowhere"]) == 2
    assert "nowhere is not a finished run" in capsys.readouterr().err
    assert not (run.folder / "inspect").exists()


def test_missing_data_give_one_line_errors(
    fit: Callable[..., Path], tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("--rounds.count", "1", "--trainer.max_epochs", "1")
    away = tiny_root.with_name("away")
    tiny_root.rename(away)
    try:
        config = (run / "config.yaml").read_text()
        assert str(tiny_root) in config
        capsys.readouterr()
        assert main(["inspect", str(run)]) == 2
    finally:
        shutil.rmtree(tiny_root, ignore_errors=True)  # remove leftovers of the attempted download
        away.rename(tiny_root)
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1
    assert "MNIST" in error[0]


def test_untrusted_names_are_escaped(runs: Callable[[str], pairs_lit.Run]) -> None:
    run = replace(runs("joint, one round, gt"), label="a$b$<script>|*x*")
    result = pairs_lit.inspect_run(run, write=False)
    text = render_page(result, [])
    assert "# Inspection of a$b$\\<script\\>\\|\\*x\\*" in text
    titles = {figure.get_suptitle().split(":")[0] for figure in draw_inspection(result).values()}
    assert titles == {r"a\$b\$<script>|*x*"}


def test_many_classes_are_drawn_without_numbers() -> None:
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 47, (300, 2))
    target = digits[:, 0] <= digits[:, 1]
    p = rng.random((2, 300))
    read = np.broadcast_to(digits, (2, 300, 2))
    predictions = PairPredictions([0, 1], 47, digits, target, p, p > 0.5, read)
    with warnings.catch_warnings(action="error"):
        for figure in (
            draw_confusion(compute_confusion(predictions)),
            draw_accuracy_by_classes(compute_accuracy_by_classes(predictions)),
        ):
            assert not figure.axes[0].texts
            assert figure.axes[0].images[0].get_array().shape == (47, 47)
            figure.draw_without_rendering()
        draw_accuracy_by_distance(compute_accuracy_by_distance(predictions)).draw_without_rendering()


NAMED = ["T-shirt", "$x^2$", "a|b", "an extremely long name", "ü", "Sandal", "7"]


def test_classes_are_called_by_their_names_in_figures() -> None:
    predictions = said()
    result = inspection.find_hardest_pairs(predictions, 3)
    figures = [
        draw_confusion(compute_confusion(predictions), NAMED),
        draw_accuracy_by_classes(compute_accuracy_by_classes(predictions), NAMED),
    ]
    for figure in figures:
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
            texts = [tick.get_text() for tick in axis.get_ticklabels()]
            assert texts == ["T-shirt", r"\$x^2\$", "a|b", "an extremely …", "ü", "Sandal", "7"]
    figure = draw_hardest_pairs(result, np.zeros((3, 2, 14, 14)), "le", ["zero", *"123456"])
    for pair, above in zip(result, figure.axes[::2], strict=True):
        first, second = (["zero", *"123456"][digit] for digit in pair.digits)
        assert above.get_title().startswith(f"{first} ≤ {second}: ")
    assert format_readings(np.array([0, 2, 5]), names=["a", "b", "c"]) == "c (5×), b (2×)"
    assert (
        "distance in the order of the classes"
        in draw_accuracy_by_distance(compute_accuracy_by_distance(predictions), has_names=True).axes[0].get_xlabel()
    )
    for figure in figures:
        figure.draw_without_rendering()


def test_the_page_calls_classes_by_their_names(runs: Callable[[str], pairs_lit.Run]) -> None:
    result = pairs_lit.inspect_run(runs("aux, standard"), write=False)
    text = render_page(replace(result, class_names=["a|b", *"bcdefghij"]), [])
    assert "in this order: a\\|b, b, c" in text
    first, second = (["a\\|b", *"bcdefghij"][digit] for digit in result.hardest[0].digits)
    assert re.search(rf"\| {result.hardest[0].index} +\| {re.escape(first)} ≤ {re.escape(second)} ", text)
    if result.confusion is not None:
        assert re.search(r"\| true \\ read +\| a\\\|b +\| b +\| c ", text)
    assert "Accuracy by the distance in the order of the classes" in text


def test_the_public_names_are_there() -> None:
    assert pairs_lit.Inspection is Inspection
    assert callable(pairs_lit.inspect_run)
