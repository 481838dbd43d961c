"""``pairs-lit reproduce``: trains the rows that are not finished, then writes the tables and figures of the reports."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pairs_lit.commands.option_parser import OptionParser
from pairs_lit.errors import PairsLitError, check_positive
from pairs_lit.reproduction.claim_results import describe_limit_of
from pairs_lit.reproduction.claims import CLAIMS
from pairs_lit.reproduction.fits import Conditions, Job, all_jobs
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.commit import commit
from pairs_lit.runs.run_folder import lock_runs, new_run_folder
from pairs_lit.runs.shipped_configs import SHIPPED
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.system.signals import check_announced


def parser() -> OptionParser:
    """Return the parser of the command line."""
    found = OptionParser(
        prog="pairs-lit reproduce",
        description="Train every row of the reports on MNIST and write tables and figures, published beside ours. "
        "What is finished with the same config and seeds is not trained again; what was interrupted goes on.",
    )
    found.add_argument("reports", nargs="*", metavar="REPORT", help=f"one or more of {', '.join(REPORTS)}; none: all")
    found.add_argument("--rounds", type=int, help="how many rounds; default: as many as the report")
    found.add_argument("--seed", type=int, help="the seed of the first round; default: the config's")
    configs = "holds reports/REPORT/ROW.yaml; default: ours"
    found.add_argument("--configs", type=user_path, default=SHIPPED, help=configs)
    found.add_argument("--output", type=user_path, default=Path("docs/results"), help="where tables and figures go")
    found.add_argument("--runs", type=user_path, default=Path(), help="the folder that holds lightning_logs")
    found.add_argument("--data.root", dest="root", type=user_path, help="the folder that holds MNIST/raw")
    unverified = "accept other files in MNIST's format; every table then says so"
    found.add_argument("--data.allow_unverified", dest="allow_unverified", action="store_true", help=unverified)
    found.add_argument("--no-training", action="store_true", help="only write the pages of what is finished")
    return found


def run(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    unknown = [name for name in options.reports if name not in REPORTS]
    if unknown:
        raise PairsLitError(f"unknown report {unknown[0]!r}: use one or more of {', '.join(REPORTS)}.")
    reports = [REPORTS[name] for name in options.reports or REPORTS]
    if options.rounds is not None:
        check_positive("--rounds", options.rounds)
    conditions = Conditions(
        options.configs, options.rounds, options.seed, options.root, options.allow_unverified, options.runs
    )
    jobs = [job for report in reports for job in all_jobs(report, conditions)]
    if options.rounds is not None and (limit := describe_limit_of(CLAIMS, options.rounds)):
        notice(f"{limit} (--rounds).")
    if not options.no_training:
        with lock_runs(options.runs / "lightning_logs"):
            train(jobs)
    elif not any(job.finished for job in jobs):
        raise PairsLitError(f"nothing of {', '.join(report.name for report in reports)} is finished: train it first.")
    from pairs_lit.reproduction.report_pages import write_pages

    for path in write_pages(reports, conditions, options.output):
        print(path)


def train(jobs: Sequence[Job]) -> None:
    """Finish every job, with one progress bar over all epochs of all rounds."""
    todo = [job for job in jobs if job.finished is None]
    if len(todo) < len(jobs):
        notice(f"{len(jobs) - len(todo)} of {len(jobs)} fits are already finished.")
    if not todo:
        return
    if (commit() or "").endswith("+changes"):
        notice("the project's files differ from their last commit, and the results will say so.")
    from pairs_lit.commands.fit import fit
    from pairs_lit.training.progress import EpochsDone
    from pairs_lit.workers.cluster import check_alone

    check_alone("reproduce")
    total = sum(job.rounds * job.epochs for job in todo)
    bar: tqdm[Any]
    with tqdm(total=total, unit="epoch", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for together in _together(todo):
            bar.set_description(f"{together[0].report.name} {together[0].row.name}")
            if len(together) > 1:
                _train_sweep(together, bar)
            else:
                (job,) = together
                fit(job.config, job.changes | {"trainer.enable_progress_bar": False}, [EpochsDone(bar, job.rounds)])
            check_announced()


def _together(todo: Sequence[Job]) -> list[list[Job]]:
    """Put the values of a sweep together, unless a fit of one was interrupted, which goes on alone."""
    groups: dict[object, list[Job]] = {}
    for job in todo:
        is_slice = job.value is not None and job.checkpoint is None
        groups.setdefault((job.config, job.recipe) if is_slice else job.name, []).append(job)
    return list(groups.values())


def _train_sweep(jobs: Sequence[Job], bar: "tqdm[Any]") -> None:
    """Train the values of a sweep, in one fit those that can be in one."""
    from pairs_lit.training.progress import EpochsDone
    from pairs_lit.variants.fits import fit_variants, fits_of, read_variants

    base, runs = [f"--config={jobs[0].config}"], jobs[0].conditions.runs
    plans = read_variants(base, [job.changes for job in jobs])
    for numbers in fits_of(plans):
        chosen, rounds = [plans[number] for number in numbers], sum(jobs[number].rounds for number in numbers)
        folders = [new_run_folder(runs, jobs[number].name) for number in numbers]
        try:
            fit_variants(base, chosen, folders, runs / "lightning_logs" / ".fits", [EpochsDone(bar, rounds)])
        finally:
            for folder in folders:
                with suppress(OSError):  # an interrupted fit leaves them empty; it goes on with new ones
                    folder.rmdir()
        check_announced()
