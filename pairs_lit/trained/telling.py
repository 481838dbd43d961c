"""Telling what a run says of pictures: as text for people, as CSV and as JSON."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any, Literal

from tabulate import tabulate

from pairs_lit.analysis.tables import decimal, mean_and_std
from pairs_lit.errors import check_choice, printable
from pairs_lit.relation import Relation
from pairs_lit.trained.applying import Applied, PairAnswer, Reading

Format = Literal["text", "csv", "json"]

_SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">"}


def sign_of(relation: str) -> str:
    """Return a relation as people write it; refuse one that a damaged run names."""
    check_choice("relation", Relation, relation)
    return _SIGNS[relation]


def told(applied: Applied, style: Format) -> str:
    """Return what a run says in a format, without a line break at its end."""
    check_choice("format", Format, style)
    return {"text": _text, "csv": _csv, "json": _json}[style](applied)


def _text(applied: Applied) -> str:
    """Return a row for each pair, then one for each round of each pair."""
    sign, n = sign_of(applied.relation), len(applied.seeds)
    header = ["", "left", "right", f"P(left {sign} right)", "answer", "left read as", "right read as"]
    rows = [_row(number, pair, n) for number, pair in enumerate(applied.pairs, 1)]
    columns = [applied.seeds, *([decimal(value) for value in pair.rounds] for pair in applied.pairs)]
    names = ["seed", *(f"pair {number}" for number in range(1, len(applied.pairs) + 1))]
    failed, folder = applied.run.failed, printable(str(applied.run.folder))
    left_out = f" {len(failed)} rounds failed and are left out: seed {', '.join(map(str, failed))}." if failed else ""
    parts = [
        tabulate(rows, header, disable_numparse=True),
        f"P(left {sign} right) of each round:",
        tabulate(list(zip(*columns, strict=True)), names, disable_numparse=True, stralign="right"),
        f"mean ± std (ddof 1) over {n} rounds of {folder}, trained on {applied.source}.{left_out}",
    ]
    return "\n\n".join(parts)


def _row(number: int, pair: PairAnswer, n: int) -> list[str]:
    answer = f"{'yes' if pair.probability.mean > 0.5 else 'no'} ({pair.agreeing} of {n})"
    read = ["–", "–"] if pair.readings is None else [_read(each, n) for each in pair.readings]
    return [str(number), *map(printable, pair.names), mean_and_std(pair.probability), answer, *read]


def _read(reading: Reading, n: int) -> str:
    return f"{reading.read} ({reading.agreeing} of {n})"


def _csv(applied: Applied) -> str:
    """Return a row for each pair and round; names that a spreadsheet would compute are quoted with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["pair", "left", "right", "relation", "seed", "probability", "left_read", "right_read", "n", "mean", "std"]
    writer.writerow([*names, "source", "run"])
    for number, pair in enumerate(applied.pairs, 1):
        found = pair.probability
        for place, seed in enumerate(applied.seeds):
            read = ["", ""] if pair.readings is None else [each.rounds[place] for each in pair.readings]
            row = [number, *map(_cell, pair.names), applied.relation, seed, pair.rounds[place], *read, found.n]
            std = found.std if found.n > 1 else ""
            writer.writerow([*row, found.mean, std, applied.source, _cell(str(applied.run.folder))])
    return text.getvalue().rstrip("\n")


def _cell(text: str) -> str:
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@")) else printable(text)


def _json(applied: Applied) -> str:
    pairs = [_pair(pair, applied) for pair in applied.pairs]
    head = {
        "run": str(applied.run.folder),
        "source": applied.source,
        "relation": applied.relation,
        "n": len(applied.seeds),
        "seeds": list(applied.seeds),
        "failed": applied.run.failed,
    }
    return json.dumps(head | {"pairs": pairs}, indent=2)


def _pair(pair: PairAnswer, applied: Applied) -> dict[str, Any]:
    found = pair.probability
    std = found.std if found.n > 1 else None
    probability = {"mean": found.mean, "std": std, "n": found.n, "rounds": list(pair.rounds)}
    readings = [None, None] if pair.readings is None else [asdict(each) for each in pair.readings]
    sides = {"left": pair.names[0], "right": pair.names[1], "left_read": readings[0], "right_read": readings[1]}
    return sides | {"probability": probability, "answer": found.mean > 0.5, "agreeing": pair.agreeing}
