"""Benchmarks: all methods train the same networks, the arithmetic is right, the pages and figures are complete."""

import argparse
import importlib
import multiprocessing
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import alpha_figure
import growth
import job
import pairs_lit
import record
import record_speed
import sweep
from background_load import keep_cores_busy as busy_machine
from baselines import METHODS, EpochClock, Timing, get_batch_size, load_splits
from lower_bound import compute_lower_bound, count_work
from networks import NETWORKS
from pairs_figure import PAIR_COUNT, draw_pairs
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.system.cores import count_usable_cores
from pairs_lit.variants.reading import read_variants
from tests.conftest import CONFIGS
from tests.support.shipped import PARAMETERS
from training_speed import (
    COLUMNS,
    Case,
    TableRow,
    build_csv_rows,
    build_rows,
    compute_spread,
    describe_setup,
    draw_figure,
    has_same_mean,
    list_cases,
    read_rows,
    render_report,
)

NETWORK_PARAMETERS = {"residual": 52_251, "resnet18": 11_181_663}


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_network_matches_its_config(name: str) -> None:
    network = NETWORKS[name]
    built = sum(value.numel() for value in network.build().parameters())
    assert built == NETWORK_PARAMETERS.get(name, PARAMETERS[network.config.removesuffix(".yaml")])
    assert (CONFIGS / network.config).is_file()


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_optimizer_of_each_network_work(name: str) -> None:
    network = NETWORKS[name]
    model = network.build()
    digits = torch.randint(0, 10, (6, 2))
    loss = network.compute_loss(model(torch.rand(6, 2, 14, 14)), digits, (digits[:, 0] <= digits[:, 1]).long())
    loss.backward()
    network.build_optimizer(model.parameters()).step()
    assert loss.isfinite()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # the DataLoaders of the plain Trainer
@pytest.mark.parametrize("contender", METHODS)
@pytest.mark.quick(1)
def test_every_method_trains_on_the_pairs_of_each_round(mnist_root: Path, contender: str) -> None:
    timing = METHODS[contender]("fc", [0, 1], 3, "cpu")
    assert len(timing.accuracy) == 2
    assert all(value > 0.6 for value in timing.accuracy)  # the majority class has 0.55
    assert len(timing.seconds) == (4 if contender in ("plain", "lightning") else 2)
    assert all(value > 0 for value in timing.seconds)


def test_methods_use_pairs_and_batch_size_of_the_config(mnist_root: Path) -> None:
    siamese, fc = load_splits("siamese", 3, "cpu"), load_splits("fc", 3, "cpu")
    assert siamese["train"][0].shape == (2000, 2, 14, 14)  # with the swapped pairs
    assert fc["train"][0].shape == (1000, 2, 14, 14)
    assert (get_batch_size("siamese"), get_batch_size("fc")) == (100, 32)
    assert torch.equal(siamese["test"][2], fc["test"][2])


def test_counted_work_matches_a_count_by_hand(mnist_root: Path) -> None:
    images, pairs = 2000, 1000
    branch, head = 2 * (196 * 10 + 10 * 10), 2 * 20
    forward = images * branch + pairs * head
    backward = forward + images * 2 * 10 * 10 + pairs * 2 * 20  # weights, then inputs of later layers
    operations, traffic = count_work("fc")
    assert operations == pytest.approx(forward + backward + 2 * forward, rel=0.02)
    assert traffic > 4 * images * 2 * 196
    assert compute_lower_bound("fc", operations, traffic * 2) == pytest.approx(1)
    assert compute_lower_bound("fc", operations * 2, traffic) == pytest.approx(1)


def test_clock_skips_the_first_epoch_and_divides_by_rounds() -> None:
    assert EpochClock([10.0, 12.0, 16.0]).compute_epoch_seconds(4) == [0.5, 1.0]


def test_accuracies_agree_within_three_standard_errors() -> None:
    rng = np.random.default_rng(0)
    sample = rng.normal(0.8, 0.02, 20).tolist()
    assert has_same_mean(sample, rng.normal(0.8, 0.02, 20).tolist())
    assert not has_same_mean(sample, [value - 0.1 for value in sample])


def build_measurement(contender: str, rounds: int, threads: int, seconds: float) -> tuple[Case, list[Timing]]:
    return Case("fc", contender, rounds, threads), [Timing([seconds, 2 * seconds, 3 * seconds], [0.7, 0.8])]


@pytest.fixture
def table() -> list[TableRow]:
    timings = dict(
        [
            build_measurement("plain", 1, 1, 0.040),
            build_measurement("plain", 1, 2, 0.020),
            build_measurement("lightning", 1, 2, 0.100),
            *(
                build_measurement(name, count, 2, 0.010 / count)
                for name in ("functional", "pairs-lit")
                for count in (1, 20)
            ),
            build_measurement("pairs-lit", 4, 2, 0.010),
        ]
    )
    same, other = Timing([], [0.7, 0.8, 0.75]), Timing([], [0.72, 0.78, 0.74])
    return build_rows(timings, [same, other, other, other], 0.0005)


def test_lines_take_the_faster_plain_loop_and_medians_in_milliseconds(table: list[TableRow]) -> None:
    one, four, twenty = table
    assert (one.rounds, four.rounds, twenty.rounds) == (1, 4, 20)
    assert "functional" not in four.times
    assert one.threads == 2
    assert one.times["plain"] == pytest.approx((40, 20, 60))
    assert twenty.times["pairs-lit"] == pytest.approx((1, 0.5, 1.5))
    assert twenty.compute_ratio("plain") == pytest.approx(40)
    assert twenty.compute_ratio("lightning") == pytest.approx(200)
    assert one.has_same_accuracy
    assert compute_spread([Timing([0.001], []), Timing([0.003, 0.002], [])]) == pytest.approx((2, 1, 3))


def test_report_states_ratios_ranges_and_conditions(table: list[TableRow]) -> None:
    options = argparse.Namespace(device="cpu", repeats=2, checked=8)
    text = render_report(table, describe_setup(options, 150e9, 20e9))
    assert "1.0 (0.5 to 1.5)" in text
    assert "| 40.0 " in text
    assert "| 200.0 " in text
    assert "150 GFLOP/s" in text
    assert "2 interleaved repeats" in text
    assert len(list(build_csv_rows(table))) == 11


def test_lines_are_read_from_the_csv_file_as_they_were_written(table: list[TableRow]) -> None:
    written = [dict(zip(COLUMNS, map(str, cells), strict=True)) for cells in build_csv_rows(table)]
    assert read_rows(written) == table


@pytest.mark.parametrize("code", [job.PLAIN_LOOP_CODE, record_speed.PLAIN_LOOP_CODE, sweep.PLAIN_LOOP_CODE])
def test_code_for_other_processes_names_existing_functions(code: str) -> None:
    ((module, function),) = re.findall(r"(\w+)\.(\w+)\(['{r]", code.replace("torch.set_num_threads", ""))
    assert callable(getattr(importlib.import_module(module), function))


def test_figure_of_alpha_has_a_line_for_each_number_of_pairs() -> None:
    alphas, accuracies = alpha_figure.read_table(alpha_figure.PAGE.read_text(encoding="utf-8"))
    (axes,) = alpha_figure.draw(alphas, accuracies).axes
    assert len(axes.lines) == len(accuracies) == 4
    assert all(len(values) == len(alphas) == 8 for values in accuracies.values())


def test_figure_has_a_curve_for_each_method_and_the_lower_bound(table: list[TableRow]) -> None:
    drawing = draw_figure(table)
    (axes,), (legend,) = drawing.axes, drawing.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert set(labels) == {"plain loop", "textbook Lightning", "torch.func", "pairs-lit", "lower bound"}
    assert (axes.get_xlabel(), axes.get_xscale(), axes.get_yscale()) == ("rounds", "log", "log")


def test_plain_loop_is_measured_with_one_thread_and_with_all() -> None:
    plain = [case for case in list_cases("fc", [1, 4]) if case.method == "plain"]
    assert [case.threads for case in plain] == [1, max(2, torch.get_num_threads())]
    assert {case.rounds for case in list_cases("fc", [1, 100]) if case.method == "pairs-lit"} == {1, 100}
    assert {case.rounds for case in list_cases("fc", [1, 20, 100]) if case.method == "functional"} == {1, 20}


def test_idle_and_busy_are_measured_separately(table: list[TableRow]) -> None:
    both = list_cases("fc", [1, 20], ["idle", "busy"])
    assert [case.condition for case in both] == ["idle"] * 7 + ["busy"] * 5
    slow = {replace(case, condition="busy"): [Timing([1.0, 2.0], [0.7, 0.8])] for case in list_cases("fc", [1])}
    quick = {case: [Timing([0.1, 0.2], [0.7, 0.8])] for case in list_cases("fc", [1])}
    same = Timing([], [0.7, 0.8, 0.75])
    idle, busy = build_rows(slow | quick, [same, same], 0.001)[::-1]
    assert (idle.condition, idle.times["plain"][0], busy.condition, busy.times["plain"][0]) == (
        "idle",
        pytest.approx(150),
        "busy",
        pytest.approx(1500),
    )


def test_busy_processes_end_with_the_block() -> None:
    with busy_machine():
        spinning = multiprocessing.active_children()
        assert len(spinning) == count_usable_cores()
    assert not any(process.is_alive() for process in spinning)


def test_figure_of_pairs_shows_each_answer_and_the_data() -> None:
    drawn = draw_pairs(PairDataModule(seeds=[0], stack_size=1, source="digits"))
    answers = [axes.get_xlabel() for axes in drawn.axes]
    assert len(answers) == PAIR_COUNT
    for answer in answers:
        left, _, right, word = answer.replace(":", "").split()
        assert word == ("yes" if int(left) <= int(right) else "no")
    assert "Data: digits" in drawn.get_suptitle()


@pytest.mark.slow
def test_page_of_the_record_is_written_from_its_runs(tmp_path: Path) -> None:
    few = {
        "rounds.count": 2,
        "trainer.max_epochs": 1,
        "trainer.devices": 1,
        "trainer.default_root_dir": tmp_path,
        "data.source": "digits",
        "data.train_pairs": 100,
        "data.test_pairs": 20,
        "data.val_pairs": 20,
        "model.backbone.init_args.channels": [2, 2, 2, 2, 2, 2],
    }
    fits = {fit.name: fit for fit in record.FITS}
    for name in ("record", "without_views", "pairs_250", "tuning_as_it_is", "tuning_bf16"):
        fit = fits[name]
        options = {"name": name, "rounds.seed": fit.seed}
        pairs_lit.fit(
            fit.config, {**few, **fit.changes, **options} | ({"data.train_pairs": 50} if "250" in name else {})
        )
    text = record.render_page(tmp_path, tmp_path / "record.md")
    run = record.find_finished_run(fits["record"], tmp_path)
    assert run is not None
    assert f"{100 * run.summary['test_all_accuracy'].mean:.2f} ± " in text
    assert f"{100 * (1 - run.summary['test_all_digit_accuracy'].mean):.2f} ± " in text
    assert all(
        phrase in text
        for phrase in ("data: digits", "no test-time augmentation", "| 50 ", "bfloat16", "+0.00 to +0.00")
    )
    assert {path.name for path in tmp_path.glob("*.png")} == {"record_misread.png", "record_pairs.png"}
    assert record.find_finished_run(fits["record_members"], tmp_path) is None


def test_fits_of_the_record_have_unique_names_and_separate_seeds() -> None:
    names = [fit.name for fit in record.FITS]
    assert len(set(names)) == len(names)
    tuned = {seed for fit in record.TUNING for seed in range(fit.seed, fit.seed + fit.rounds)}
    shown = {seed for fit in record.FITS if fit not in record.TUNING for seed in range(fit.seed, fit.seed + fit.rounds)}
    assert not tuned & shown
    assert all(fit.changes["data.watch_test"] is False for fit in record.TUNING)


@pytest.mark.slow
def test_growth_measures_one_point_of_each_curve() -> None:
    command = [sys.executable, growth.__file__, "--quick"]
    table = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split("\n\n")[0]
    rows = re.findall(r"^\| (.+?) +\| (\d+) +\| ([\d.]+) s +\| ([\d,]+) MiB +\|$", table, re.MULTILINE)
    assert [title for title, *_ in rows] == [curve.title for curve in growth.CURVES.values()]
    assert all(100 < int(memory.replace(",", "")) < 2000 for *_, memory in rows)


@pytest.mark.slow
def test_a_point_of_growth_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)--point rounds 0 .*failed.*rounds.count must be"):
        growth.measure("rounds", 0, tmp_path)


def test_points_of_growth_hold_as_much_as_they_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(growth, "PHOTO_SIZE", (400, 300))
    (tmp_path / "lightning_logs" / "fc_aux" / "1").mkdir(parents=True)
    growth.build_trials(300, tmp_path)
    growth.build_pictures(2000, tmp_path)
    assert (
        len(
            set(yaml.safe_load((tmp_path / "sweep.yaml").read_text(encoding="utf-8"))["space"]["model.loss.aux_weight"])
        )
        == 300
    )
    rows = (tmp_path / "pairs.csv").read_text(encoding="utf-8").splitlines()
    files = {name for row in rows for name in row.split(",")}
    assert (len(rows), len(files)) == (2000, growth.NUM_FILES)
    assert len({(tmp_path / name).stat().st_ino for name in files}) == growth.NUM_PHOTOS


@pytest.mark.slow
def test_all_fits_of_the_record_can_be_built() -> None:
    options = ["--data.source=digits", "--rounds.count=1"]
    for config in (record.RECORD, record.MEMBERS):
        changes = [fit.changes for fit in record.FITS if fit.config == config]
        assert len(read_variants([f"--config={config}", *options], changes)) == len(changes)
