"""``pairs-lit reproduce``: reproduction of the student reports, with tables and figures of the results."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.reproduction.claim_results import describe_round_limit
from pairs_lit.reproduction.claims import CLAIMS
from pairs_lit.reproduction.fits import Job, ReproductionSettings, iterate_jobs
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.commit import get_commit
from pairs_lit.runs.run_folder import create_run_folder, lock_runs_folder
from pairs_lit.runs.shipped_configs import CONFIGS_FOLDER
from pairs_lit.system.console import print_notice
from pairs_lit.system.file_names import check_output_path
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.signals import raise_if_end_announced


def build_parser() -> OptionParser:
    """Build the argument parser of the command."""
    parser = OptionParser(
        prog="pairs-lit reproduce",
        description="Train every row of the reports on MNIST, then write tables and figures that compare the results "
        "with the published ones. Fits that are already finished with the same config and seeds are not repeated, and "
        "interrupted fits are resumed.",
    )
    parser.add_argument("reports", nargs="*", metavar="REPORT", help=f"{', '.join(REPORTS)} (default: all of them)")
    parser.add_argument("--rounds", type=int, help="number of rounds (default: as in the report)")
    parser.add_argument("--seed", type=int, help="seed of the first round (default: as in the config)")
    configs = "folder that contains reports/REPORT/ROW.yaml (default: the bundled configs)"
    parser.add_argument("--configs", type=expand_user_path, default=CONFIGS_FOLDER, help=configs)
    parser.add_argument(
        "--output",
        type=expand_user_path,
        default=Path("docs/results"),
        help="folder to write to (default: docs/results)",
    )
    parser.add_argument(
        "--runs",
        type=expand_user_path,
        default=Path(),
        help="folder of lightning_logs (default: current folder)",
    )
    parser.add_argument(
        "--data.root", dest="root", type=expand_user_path, help="folder of MNIST/raw (default: as in pairs-lit fit)"
    )
    unverified = "accept other files in MNIST's format, and note this in every table (default: report an error)"
    parser.add_argument("--data.allow_unverified", dest="allow_unverified", action="store_true", help=unverified)
    parser.add_argument("--no-training", action="store_true", help="only write the pages of the finished fits")
    return parser


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = build_parser().parse_args(args)
    unknown = [name for name in options.reports if name not in REPORTS]
    if unknown:
        raise PairsLitError(f"unknown report {unknown[0]!r}. Use one or more of {', '.join(REPORTS)}.")
    check_output_path("--output", options.output)
    check_output_path("--runs", options.runs)
    reports = [REPORTS[name] for name in options.reports or REPORTS]
    if options.rounds is not None:
        check_positive("--rounds", options.rounds)
    conditions = ReproductionSettings(
        options.configs, options.rounds, options.seed, options.root, options.allow_unverified, options.runs
    )
    jobs = [job for report in reports for job in iterate_jobs(report, conditions)]
    if options.rounds is not None and (limit := describe_round_limit(CLAIMS, options.rounds)):
        print_notice(f"{limit} (--rounds).")
    if not options.no_training:
        with lock_runs_folder(options.runs / "lightning_logs"):
            train_jobs(jobs)
    elif not any(job.finished_run for job in jobs):
        names = ", ".join(report.name for report in reports)
        raise PairsLitError(f"no fit of {names} is finished. Leave out --no-training to train it.")
    from pairs_lit.reproduction.report_pages import write_pages

    for path in write_pages(reports, conditions, options.output):
        print(path)


def train_jobs(jobs: Sequence[Job]) -> None:
    """Train every unfinished job, with one progress bar over all epochs of all rounds."""
    unfinished = [job for job in jobs if job.finished_run is None]
    if len(unfinished) < len(jobs):
        print_notice(f"{len(jobs) - len(unfinished)} of {len(jobs)} fits are already finished.")
    if not unfinished:
        return
    if (get_commit() or "").endswith("+changes"):
        print_notice("the project has uncommitted changes; the results will note this.")
    from pairs_lit.commands.fit import fit
    from pairs_lit.training.progress import EpochCounter
    from pairs_lit.workers.cluster import check_single_process

    check_single_process("reproduce")
    total = sum(job.rounds * job.epochs for job in unfinished)
    bar: tqdm[Any]
    with tqdm(total=total, unit="epoch", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for group in _group_jobs(unfinished):
            bar.set_description(f"{group[0].report.name} {group[0].row.name}")
            if len(group) > 1:
                _train_sweep(group, bar)
            else:
                (job,) = group
                fit(job.config, job.changes | {"trainer.enable_progress_bar": False}, [EpochCounter(bar, job.rounds)])
            raise_if_end_announced()


def _group_jobs(unfinished: Sequence[Job]) -> list[list[Job]]:
    """Group the values of each sweep; an interrupted fit is resumed from its checkpoint and so forms its own group."""
    groups: dict[object, list[Job]] = {}
    for job in unfinished:
        is_variant = job.value is not None and job.checkpoint is None
        groups.setdefault((job.config, job.recipe) if is_variant else job.name, []).append(job)
    return list(groups.values())


def _train_sweep(jobs: Sequence[Job], bar: "tqdm[Any]") -> None:
    """Train the values of a sweep, in as few fits as possible."""
    from pairs_lit.training.progress import EpochCounter
    from pairs_lit.variants.fits import fit_variants, group_into_fits
    from pairs_lit.variants.reading import read_variants

    base, runs = [f"--config={jobs[0].config}"], jobs[0].conditions.runs
    plans = read_variants(base, [job.changes for job in jobs])
    for numbers in group_into_fits(plans):
        chosen, rounds = [plans[number] for number in numbers], sum(jobs[number].rounds for number in numbers)
        folders = [create_run_folder(runs, jobs[number].name) for number in numbers]
        try:
            fit_variants(base, chosen, folders, runs / "lightning_logs" / ".fits", [EpochCounter(bar, rounds)])
        finally:
            for folder in folders:
                with suppress(OSError):  # an interrupted fit leaves empty folders, and the next call creates new ones
                    folder.rmdir()
        raise_if_end_announced()
