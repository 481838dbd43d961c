"""Predictions of a run as readable text, CSV or JSON."""

import json
from typing import Literal

from pairs_lit.errors import check_choice
from pairs_lit.inference.predictions import ApplyResult, DigitPrediction, PairPrediction
from pairs_lit.runs.tables import add_note_column, format_csv
from pairs_lit.text import replace_control_characters

ResultFormat = Literal["text", "csv", "json"]


def format_result(applied: ApplyResult, style: ResultFormat) -> str:
    """Return the predictions of a run in a format, without a line break at the end."""
    check_choice("format", ResultFormat, style)
    if style == "text":
        return str(applied)
    return _format_csv(applied) if style == "csv" else _format_json(applied)


def _format_csv(applied: ApplyResult) -> str:
    """Return a row for each pair and round; names that a spreadsheet would evaluate get a leading apostrophe."""
    names = ["pair", "left", "right", "relation", "seed", "probability", "left_read", "right_read", "n", "mean", "std"]
    header, rows = [*names, "source", "run", "answer", "rounds_yes", "warning"], list[list[object]]()
    for number, pair in enumerate(applied.pairs, 1):
        summary = pair.probability
        end = [
            applied.source,
            _format_cell(str(applied.run.folder)),
            _format_answer(pair),
            pair.yes,
            " ".join(pair.warnings),
        ]
        for place, seed in enumerate(applied.seeds):
            read = ["", ""] if pair.readings is None else [digit.labels[place] for digit in pair.readings]
            row = [number, *map(_format_cell, pair.names), applied.relation, seed, pair.rounds[place], *read, summary.n]
            std = summary.std if summary.n > 1 else ""
            rows.append([*row, summary.mean, std, *end])
    return format_csv(*add_note_column(header, rows, applied.note)).rstrip("\n")


def _format_answer(pair: PairPrediction) -> str:
    return "yes" if pair.holds else "no"


def _format_cell(text: str) -> str:
    return (
        f"'{replace_control_characters(text)}"
        if text.startswith(("=", "+", "-", "@"))
        else replace_control_characters(text)
    )


def _format_json(applied: ApplyResult) -> str:
    pairs = []
    for pair in applied.pairs:
        summary = pair.probability
        std = summary.std if summary.n > 1 else None
        probability = {"mean": summary.mean, "std": std, "n": summary.n, "rounds": list(pair.rounds)}
        readings = [None, None] if pair.readings is None else [_to_dict(digit) for digit in pair.readings]
        sides = {"left": pair.names[0], "right": pair.names[1], "left_read": readings[0], "right_read": readings[1]}
        answer = {"answer": pair.holds, "agreeing": pair.agreeing, "yes": pair.yes, "in_words": pair.answer}
        pairs.append(sides | {"probability": probability} | answer | {"warnings": list(pair.warnings)})
    head = {
        "run": str(applied.run.folder),
        "source": applied.source,
        "relation": applied.relation,
        "class_names": list(applied.class_names),
        "n": len(applied.seeds),
        "seeds": list(applied.seeds),
        "failed": applied.left_out,
        "notices": list(applied.notices),
        **({"note": applied.note} if applied.note else {}),
    }
    return json.dumps(head | {"pairs": pairs}, indent=2)


def _to_dict(reading: DigitPrediction) -> dict[str, object]:
    """Return the predicted classes as numbers, or as names with the numbers under separate keys."""
    content: dict[str, object] = {"name": reading.name, "rounds": list(reading.rounds), "read": reading.read}
    if reading.class_names:
        names = {"rounds": reading.labels, "read": reading.label}
        content |= names | {"class_numbers": list(reading.rounds), "class_number": reading.read}
    return content | {"agreeing": reading.agreeing}
