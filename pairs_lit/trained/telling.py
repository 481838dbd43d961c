"""Telling what a run says of pictures: as text for people, as CSV and as JSON."""

import csv
import io
import json
from dataclasses import asdict
from typing import Literal

from pairs_lit.errors import check_choice, printable
from pairs_lit.trained.applying import Applied

Format = Literal["text", "csv", "json"]


def told(applied: Applied, style: Format) -> str:
    """Return what a run says in a format, without a line break at its end."""
    check_choice("format", Format, style)
    if style == "text":
        return str(applied)
    return _csv(applied) if style == "csv" else _json(applied)


def _csv(applied: Applied) -> str:
    """Return a row for each pair and round; names that a spreadsheet would compute are quoted with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["pair", "left", "right", "relation", "seed", "probability", "left_read", "right_read", "n", "mean", "std"]
    note = [applied.note] if applied.note else []
    writer.writerow([*names, "source", "run", *["note"] * len(note)])
    for number, pair in enumerate(applied.pairs, 1):
        found = pair.probability
        for place, seed in enumerate(applied.seeds):
            read = ["", ""] if pair.readings is None else [each.rounds[place] for each in pair.readings]
            row = [number, *map(_cell, pair.names), applied.relation, seed, pair.rounds[place], *read, found.n]
            std = found.std if found.n > 1 else ""
            writer.writerow([*row, found.mean, std, applied.source, _cell(str(applied.run.folder)), *note])
    return text.getvalue().rstrip("\n")


def _cell(text: str) -> str:
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@")) else printable(text)


def _json(applied: Applied) -> str:
    pairs = []
    for pair in applied.pairs:
        found = pair.probability
        std = found.std if found.n > 1 else None
        probability = {"mean": found.mean, "std": std, "n": found.n, "rounds": list(pair.rounds)}
        readings = [None, None] if pair.readings is None else [asdict(each) for each in pair.readings]
        sides = {"left": pair.names[0], "right": pair.names[1], "left_read": readings[0], "right_read": readings[1]}
        pairs.append(sides | {"probability": probability, "answer": found.mean > 0.5, "agreeing": pair.agreeing})
    head = {
        "run": str(applied.run.folder),
        "source": applied.source,
        "relation": applied.relation,
        "n": len(applied.seeds),
        "seeds": list(applied.seeds),
        "failed": applied.run.failed,
        **({"note": applied.note} if applied.note else {}),
    }
    return json.dumps(head | {"pairs": pairs}, indent=2)
