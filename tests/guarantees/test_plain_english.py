"""The texts of the package, its pages and its tests: plain phrases, and docstrings of parameters that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("pairs_lit", "tests", "benchmarks", "docs", "configs")
PAGES = ("README.md", "CONTRIBUTING.md")
SUFFIXES = (".py", ".md", ".yaml", ".html", ".js")

PHRASES = {
    r"what (came|comes) of": "results of",
    r"\b(goes?|going|went|gone) on\b": "resume, continue",
    r"\bso (many|much|few)\b(?! rounds| images| identical| are)": "a number",
    r"\bof (one's|your|their|its|his) own\b": "its, separate, custom",
    r"\bof ours\b|\bof yours\b": "of this package, your",
    r"\bbut for\b": "except",
    r"\bas (it is|they are|they stand)\b": "unchanged, baseline",
    r"\b(says?|said|speaks?) (of|for)\b": "predicts, describes",
    r"\banew\b": "again",
    r"\bbeside\b(?!\()": "next to",
    r"\b(and|or) the like\b": "name the others",
    r"\bknows? (nothing|of)\b": "has no information about",
    r"\b(rounds?|parameters|pairs|seconds|images) an? (round|stack|row|run|pair|step|epoch|worker|class)\b": "per",
    r"\b[Ll]ikewise\b": "also",
    r"^\s*\"\"\"(Say|Let|Have|Be|Take)\b": "a concrete verb",
    r"\b(is|are|was|were) refused\b|\bto refuse\b": "rejected",
    r"[.;,:] None: \w": "or None if",
    r"\bt(old|ell)s? (apart|from|which)\b": "differ significantly",
    r"\bstands? (in|at|beside|behind|there|twice)\b": "is",
    r"\bdata sets?\b": "dataset",
    r"\brooms?\b|\bthe house\b": "package, architecture",
    r"\bmix(es)? rounds\b": "couple rounds",
    r"^    (found|own|said|given|wanted|made|kept) = (?!Renamed)": "what the variable holds",
}
"""Phrases, and what to write instead."""

ALLOWED = {
    "tests/guarantees/test_plain_english.py": "lists them",
    "docs/results": "its sentences are those of the release that wrote them",
}
"""Files and folders that may contain them, and why."""


def list_texts() -> list[Path]:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    pages = [ROOT / name for name in PAGES]
    return [path for path in (*files, *pages) if not path.relative_to(ROOT).as_posix().startswith(tuple(ALLOWED))]


TEXTS = list_texts()


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_not_used(phrase: str) -> None:
    expression = re.compile(phrase, re.MULTILINE)
    hits = []
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        places = [text.count("\n", 0, match.start()) + 1 for match in expression.finditer(text)]
        hits += [f"{path.relative_to(ROOT)}:{line}" for line in places]
    assert not hits, f"write instead: {PHRASES[phrase]}"


def test_the_phrases_are_found() -> None:
    examples = ("what came of it", "goes on", "seconds a round", "data sets", '"""Say whether it is', "; None: none")
    for example in examples:
        assert any(re.search(phrase, example) for phrase in PHRASES), example


def list_documented_names(docstring: str, heading: str) -> list[str]:
    section = re.search(rf"^( *){heading}:\n((?:\1 +.*\n|\n)+)", docstring + "\n", re.MULTILINE)
    if section is None:
        return []
    return re.findall(rf"^ {{{len(section[1]) + 4}}}(\w+):", section[2], re.MULTILINE)


def list_parameters(function: ast.FunctionDef) -> set[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg for argument in (*named, arguments.vararg, arguments.kwarg) if argument is not None}


def list_attributes(cls: ast.ClassDef) -> set[str]:
    names = {
        node.target.id for node in cls.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for function in (node for node in cls.body if isinstance(node, ast.FunctionDef)):
        names |= {function.name} | (list_parameters(function) if function.name == "__init__" else set())
    stores = (node for node in ast.walk(cls) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return names | {node.attr for node in stores}


def find_absent_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (docstring := ast.get_docstring(node, clean=False)):
            known = list_parameters(node) if isinstance(node, ast.FunctionDef) else list_attributes(node)
            headings = ("Args",) if isinstance(node, ast.FunctionDef) else ("Args", "Attributes")
            documented = [name for heading in headings for name in list_documented_names(docstring, heading)]
            yield from (f"{node.name}: {name}" for name in documented if name not in known)


@pytest.mark.parametrize("folder", ["pairs_lit", "benchmarks", "tests/support"])
def test_docstrings_document_parameters_that_exist(folder: str) -> None:
    absent = {
        str(path): names
        for path in (ROOT / folder).rglob("*.py")
        if (names := list(find_absent_names(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert not absent
