import csv
import re
import shutil
import signal
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml

import pairs_lit
from pairs_lit.analysis.figures import draw_option_means
from pairs_lit.cli import main
from pairs_lit.reproduction.fit_results import filter_by_recipe, load_fit_results
from pairs_lit.reproduction.fits import ReproductionSettings, iterate_jobs
from pairs_lit.reproduction.published import PUBLISHED, REPORTS
from pairs_lit.reproduction.report_pages import draw_forest
from pairs_lit.runs.run_folder import lock_runs_folder
from pairs_lit.runs.tables import read_rounds
from pairs_lit.statistics import Summary, compare_by_welch, summarise
from tests.conftest import CONFIGS
from tests.support.kill_targets import Command

SEVERAL = ["belhadj", "pillonel", "gardoni"]
TINY = {"train_pairs": 40, "val_pairs": 20, "test_pairs": 30, "batch_size": 20}


@pytest.fixture(scope="session")
def tiny_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configs with few pairs and epochs."""
    root = tmp_path_factory.mktemp("configs")
    for report in REPORTS.values():
        (root / report.folder).mkdir(parents=True)
        for row in report.rows:
            content = yaml.safe_load((CONFIGS / report.folder / f"{row.name}.yaml").read_text())
            content["trainer"]["max_epochs"] = 2
            content["data"] |= TINY
            content["rounds"]["count"] = 3
            (root / report.folder / f"{row.name}.yaml").write_text(yaml.safe_dump(content))
    return root


def command(reports: list[str], configs: Path, root: Path, folder: Path) -> list[str]:
    options = ["--configs", str(configs), "--data.root", str(root), "--data.allow_unverified"]
    return ["reproduce", *reports, *options, "--runs", str(folder), "--output", str(folder / "results")]


def conditions(configs: Path, root: Path, folder: Path) -> ReproductionSettings:
    return ReproductionSettings(configs, None, None, root, True, folder)


@pytest.fixture(scope="session")
def finished(tiny_configs: Path, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which hakobyan has been reproduced."""
    folder = tmp_path_factory.mktemp("reproduced")
    assert main(command(["hakobyan"], tiny_configs, tiny_root, folder)) == 0
    return folder


@pytest.fixture(scope="session")
def several(tiny_configs: Path, tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which three reports have been reproduced in one call: a sweep, times, other recipes."""
    folder = tmp_path_factory.mktemp("several")
    assert main(command(SEVERAL, tiny_configs, tiny_root, folder)) == 0
    return folder


def test_a_page_has_published_and_reproduced_results_side_by_side(finished: Path) -> None:
    page = (finished / "results" / "hakobyan.md").read_text()
    assert "0.7175 ± 0.0519 (n = 10)" in page
    assert len(re.findall(r"\(n = 3\)", page)) >= 2
    assert "6,592" in page
    assert "mnist (unverified)" in page
    assert re.search(r"Commit: \w+", page)
    assert page.startswith("# hakobyan: published and reproduced results\n")
    assert "| reproduced, last epoch | reproduced − published | 95 % interval of the difference |" in " ".join(
        page.split()
    )
    assert "published (n = 10)" in page
    assert "reproduced (n = 3)" in page
    assert "0.8052" in page
    assert "![hakobyan: epochs](hakobyan_epochs.png)" in page
    image = (finished / "results" / "hakobyan_epochs.png").read_bytes()
    assert image[1:4] == b"PNG"
    assert b"Commit: " in image


def test_the_csv_holds_the_results_of_the_runs(finished: Path, tiny_configs: Path, tiny_root: Path) -> None:
    with (finished / "results" / "hakobyan.csv").open() as file:
        rows = list(csv.DictReader(file))
    results = load_fit_results(REPORTS["hakobyan"], conditions(tiny_configs, tiny_root, finished))
    for row, outcome in zip(rows, results, strict=True):
        accuracies = [each.test_accuracy for each in read_rounds(outcome.fit.folder / "rounds.csv")]
        ours = summarise([value for value in accuracies if value is not None])
        assert float(row["mean"]) == ours.mean
        expected = compare_by_welch(Summary(3, ours.mean, ours.std), Summary(10, outcome.row.mean, outcome.row.std))
        assert (float(row["low"]), float(row["p"])) == (expected.low, expected.p)
        assert int(row["parameters"]) == outcome.row.parameters


@pytest.mark.slow
def test_times_are_given_for_the_stack_and_for_rounds_one_at_a_time(several: Path) -> None:
    page = (several / "results" / "pillonel.md").read_text()
    times = page[page.index("## Training times") :]
    assert "27.06 min" in times
    assert [percent in times for percent in ("107.4", "114.8", "211.1")] == [True] * 3  # as the report prints them
    assert "209.8" not in times  # 56.76 of 27.06 min, both rounded
    assert times.count("| 100.0") >= 3
    assert "one at a time, 3 rounds are trained with stack size 1" in times


def test_finished_fits_are_not_trained_again(
    finished: Path, tiny_configs: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(finished.glob("lightning_logs/*/*"))
    assert main(command(["hakobyan"], tiny_configs, tiny_root, finished)) == 0
    assert sorted(finished.glob("lightning_logs/*/*")) == before
    assert "2 of 2 fits are already finished" in capsys.readouterr().err


def test_pages_can_be_written_without_training(
    finished: Path, tiny_configs: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(finished.glob("lightning_logs/*/*"))
    call = command(["hakobyan"], tiny_configs, tiny_root, finished)
    (finished / "results" / "hakobyan.md").unlink()
    assert main([*call, "--no-training"]) == 0
    assert (finished / "results" / "hakobyan.md").is_file()
    assert sorted(finished.glob("lightning_logs/*/*")) == before
    assert main([*command(["grall"], tiny_configs, tiny_root, finished), "--no-training"]) == 2
    assert "no fit of grall is finished. Leave out --no-training" in capsys.readouterr().err


def test_other_rounds_seeds_or_configs_are_other_fits(tiny_configs: Path, tmp_path: Path) -> None:
    report = REPORTS["hakobyan"]
    options = [(None, None, False), (5, None, False), (None, 7, False), (None, None, True)]
    jobs = [
        next(iterate_jobs(report, ReproductionSettings(tiny_configs, rounds, seed, None, unverified, tmp_path)))
        for rounds, seed, unverified in options
    ]
    jobs.append(next(iterate_jobs(report, ReproductionSettings(CONFIGS, None, None, None, False, tmp_path))))
    assert len({job.name for job in jobs}) == len(jobs)
    assert all(job.name.startswith("hakobyan-net1-") for job in jobs)


def test_the_option_rounds_overrides_the_rounds_of_a_variant(tmp_path: Path) -> None:
    report = REPORTS["pillonel"]
    for requested, expected in ((None, 20), (3, 3)):
        settings = ReproductionSettings(CONFIGS, requested, None, None, False, tmp_path)
        variants = [job for job in iterate_jobs(report, settings) if job.recipe == report.variants[0].name]
        assert [job.rounds for job in variants] == [expected, expected]


def test_the_option_seed_shifts_the_seeds_of_every_row(tmp_path: Path) -> None:
    grall = REPORTS["grall"]
    moved = ReproductionSettings(CONFIGS, None, 5, None, False, tmp_path)
    seeds = {job.row.name: job.options["rounds.seed"] for job in iterate_jobs(grall, moved) if not job.recipe}
    assert (seeds["b_target_mse"], seeds["b_target_mse_again"]) == ("5", "1005")


@pytest.mark.slow
def test_a_sweep_varies_one_option_and_evaluates_on_validation_pairs(
    several: Path, tiny_configs: Path, tiny_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(several, tmp_path, dirs_exist_ok=True)
    jobs = list(iterate_jobs(REPORTS["belhadj"], conditions(tiny_configs, tiny_root, tmp_path)))
    swept = [job for job in jobs if job.recipe == "alpha"]
    alphas = []
    for job in swept:
        assert job.finished_run is not None
        config = yaml.safe_load((job.finished_run / "config.yaml").read_text())
        alphas.append(config["model"]["loss"]["aux_weight"])
    assert alphas == list(REPORTS["belhadj"].sweeps[0].values)
    page = (tmp_path / "results" / "belhadj.md").read_text()
    assert "validation accuracy" in page
    assert "\n\n## Weight α of the auxiliary loss\n\nThe config `cnn_aux` was trained with" in page
    assert "Highest mean: at " in page
    assert "selects on the test set" in page
    assert (tmp_path / "results" / "belhadj_alpha.png").is_file()
    assert swept[0].finished_run is not None
    shutil.rmtree(swept[0].finished_run)
    assert main([*command(["belhadj"], tiny_configs, tiny_root, tmp_path), "--no-training"]) == 0
    page = (tmp_path / "results" / "belhadj.md").read_text()
    assert "6 of 7 values are finished" in page
    assert "Highest mean: " not in page


@pytest.mark.slow
def test_other_recipes_follow_the_baseline_of_the_rows_that_they_may_explain(
    several: Path, tiny_configs: Path, tiny_root: Path
) -> None:
    page = (several / "results" / "gardoni.md").read_text()
    section = page[page.index("## What may explain the differences") :].split("![")[0]
    report = REPORTS["gardoni"]
    assert report.remark in section
    for variant in report.variants:
        assert section.count(f"| {variant.title} ") == len(variant.rows)
        jobs = iterate_jobs(report, conditions(tiny_configs, tiny_root, several))
        for job in (job for job in jobs if job.recipe == variant.name):
            assert job.finished_run is not None
            config = yaml.safe_load((job.finished_run / "config.yaml").read_text())
            for option, value in variant.options.items():
                section_, _, key = option.rpartition(".")
                assert str(config[section_][key]) == value
    assert section.count("| baseline ") == len({row for variant in report.variants for row in variant.rows})


@pytest.mark.slow
def test_a_single_round_gives_pages_without_intervals_or_claims(
    tiny_configs: Path, tiny_root: Path, tmp_path: Path
) -> None:
    assert main([*command(["hakobyan"], tiny_configs, tiny_root, tmp_path), "--rounds", "1"]) == 0
    page = (tmp_path / "results" / "hakobyan.md").read_text()
    assert "(n = 1)" in page
    assert "±" in page  # the published ones
    assert not (tmp_path / "results" / "README.md").exists()


def test_the_code_sweep_changes_the_width_of_the_code(tmp_path: Path) -> None:
    jobs = list(iterate_jobs(REPORTS["further"], ReproductionSettings(CONFIGS, None, None, None, False, tmp_path)))
    widths = [width for job in jobs if (width := job.options.get("model.backbone.init_args.widths"))]
    assert widths == [f"[128, {dimensions}]" for dimensions in range(2, 11)]


def read_results(folder: Path) -> dict[str, bytes]:
    """Return the files of a reproduction without their times."""
    files = {}
    for path in sorted((folder / "results").iterdir()):
        content = path.read_bytes()
        if path.suffix == ".md":
            content = re.sub(rb"\d+(\.\d+)? (s|min)\b", b"TIME", content).replace(b" ", b"").replace(b"-", b"")
        if path.suffix == ".csv":
            content = re.sub(rb",[\d.]+(?=\n)", b"", content)
        files[path.name] = content
    return files


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_in_one_line(tiny_configs: Path, tiny_root: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = Command(command(["belhadj"], tiny_configs, tiny_root, tmp_path))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("lightning_logs/*/*/events*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.finish() == 128 + number
    message = f"pairs-lit: stopped by {number.name}. Progress was saved; resume with the same command."
    assert process.err.splitlines()[-1] == message
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_killed_reproduction_gives_the_same_files_when_it_is_rerun(
    tiny_configs: Path, tiny_root: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(command(["hakobyan"], tiny_configs, tiny_root, whole)) == 0
    arguments = command(["hakobyan"], tiny_configs, tiny_root, broken)
    process = Command(arguments)
    deadline = time.monotonic() + 120
    while not list(broken.glob("lightning_logs/hakobyan-net1-*/*/summary.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert not list(broken.glob("lightning_logs/hakobyan-net2-*/*/summary.json"))
    assert not (broken / "results").exists()
    assert main(arguments) == 0
    assert len(list(broken.glob("lightning_logs/hakobyan-net1-*/*/summary.json"))) == 1
    assert read_results(broken) == read_results(whole)


def count_saved(root: Path) -> int:
    """Return the number of checkpoints and summaries."""
    return sum(len(list(root.rglob(name))) for name in ("last.ckpt", "summary.json"))


@pytest.mark.slow
def test_a_reproduction_killed_often_gives_the_same_files(tiny_configs: Path, tiny_root: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(command(["belhadj"], tiny_configs, tiny_root, whole)) == 0
    arguments = command(["belhadj"], tiny_configs, tiny_root, broken)
    random, kills = Random(0), 0
    while True:
        before, process = count_saved(broken), Command(arguments)
        while process.is_alive and count_saved(broken) == before:
            time.sleep(0.02)
        process.process.join(random.uniform(0, 0.5))  # each start gets a little further, on any machine
        if not process.is_alive:
            assert process.finish() == 0
            break
        process.kill()
        kills += 1
    assert kills > 2
    assert read_results(broken) == read_results(whole)


def test_a_damaged_run_is_named(
    finished: Path, tiny_configs: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "lightning_logs", tmp_path / "lightning_logs")
    (curves,) = tmp_path.glob("lightning_logs/hakobyan-net1-*/*/curves.csv")
    curves.write_text("seed,epoch,metric,value\n0,1,test/accuracy,x\n")
    assert main([*command(["hakobyan"], tiny_configs, tiny_root, tmp_path), "--no-training"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{curves.parent} holds no readable run" in line


def test_a_second_reproduction_is_rejected_while_the_first_one_trains(
    tiny_configs: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "lightning_logs"
    with lock_runs_folder(runs):
        assert main(command(["hakobyan"], tiny_configs, tiny_root, tmp_path)) == 2
    assert f"another pairs-lit reproduce trains in {runs}. Wait for it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]


@pytest.mark.slow
def test_an_interrupted_fit_resumes_from_its_checkpoint(tiny_configs: Path, tiny_root: Path, tmp_path: Path) -> None:
    shared = conditions(tiny_configs, tiny_root, tmp_path)
    report = REPORTS["hakobyan"]
    job = next(iterate_jobs(report, shared))
    pairs_lit.fit(job.config, job.changes | {"trainer.max_epochs": 1})
    (run,) = tmp_path.glob("lightning_logs/*/*")
    for file in ("summary.json", "rounds.csv", "curves.csv"):
        (run / file).unlink()
    assert job.checkpoint == run / "checkpoints" / "last.ckpt"
    assert main(command(["hakobyan"], tiny_configs, tiny_root, tmp_path)) == 0
    assert job.finished_run == run
    undisturbed = tmp_path / "undisturbed"
    assert main(command(["hakobyan"], tiny_configs, tiny_root, undisturbed)) == 0
    (other,) = undisturbed.glob("lightning_logs/hakobyan-net1-*/*")
    assert (run / "curves.csv").read_bytes() == (other / "curves.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "unknown report 'nobody'. Use one or more of belhadj"),
        (["--rounds", "0"], "--rounds must be 1 or more, got 0"),
        (["--rounds", "many"], "argument --rounds: invalid int value: 'many'"),
        (["hakobyan", "--configs", "nowhere"], "there is no nowhere/reports/hakobyan/net1.yaml"),
    ],
)
def test_wrong_options_are_reported_before_any_training(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["reproduce", *arguments, "--runs", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_other_than_mnist_is_rejected_unless_allowed(
    tiny_configs: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        value for value in command(["hakobyan"], tiny_configs, tiny_root, tmp_path) if "unverified" not in value
    ]
    assert main(arguments) == 2
    assert "MNIST" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_forest_has_every_row_twice(finished: Path, tiny_configs: Path, tiny_root: Path) -> None:
    shared = conditions(tiny_configs, tiny_root, finished)
    rows = [outcome for report in PUBLISHED for outcome in filter_by_recipe(load_fit_results(report, shared), "")]
    figure = draw_forest(rows)
    (axes,) = figure.axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [f"{row.report.name} {row.row.title} (n = {row.report.rounds}; 3)" for row in rows]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "published (first n)",
        "reproduced (second n)",
    ]
    published, ours = (container.lines[0].get_xdata().astype(float) for container in axes.containers)
    np.testing.assert_allclose(published, [row.row.mean for row in rows])
    np.testing.assert_allclose(ours, [row.ours.mean for row in rows])
    assert (finished / "results" / "forest.png").is_file()


def test_a_sweeps_figure_shows_mean_and_std_at_each_value() -> None:
    results = {0.0: summarise([0.8, 0.9]), 0.5: summarise([0.9, 0.9])}
    (axes,) = draw_option_means(results, "α", "accuracy").axes
    assert axes.containers[0].lines[0].get_ydata() == pytest.approx([0.85, 0.9])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.5"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("α", "accuracy")


@pytest.mark.slow
def test_several_reports_are_reproduced_in_one_call(several: Path) -> None:
    written = {path.name for path in (several / "results").iterdir()}
    assert {f"{name}.{kind}" for name in SEVERAL for kind in ("md", "csv")} <= written
    for page in (several / "results").glob("*.md"):
        for image in re.findall(r"\]\((\w+\.png)\)", page.read_text()):
            assert image in written


def test_without_a_name_all_reports_are_reproduced(
    tiny_configs: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command([], tiny_configs, tiny_root, tmp_path), "--no-training"]) == 2
    assert f"no fit of {', '.join(REPORTS)} is finished. Leave out --no-training" in capsys.readouterr().err
