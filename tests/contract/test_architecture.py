"""The house rules that a machine can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("engine/headrace", "publisher", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
LINES_MAX = 330
FUNCTION_LINES_MAX = 70


def test_imports_point_one_way() -> None:
    # In a process of its own: the linter sets up logging and thereby silences every logger that exists already.
    linter = Path(sys.executable).with_name("lint-imports")
    linted = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES_MAX, "a file that grows says that a noun is missing"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{node.name} is too long"


def test_every_engine_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "tests" not in path.parts and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []
