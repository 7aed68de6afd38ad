"""The functions and tests that `docs/formulas.md` names exist."""

import ast
import importlib
import re


def test_formulas_name_functions_and_tests_that_exist(repository):
    text = (repository / "docs" / "formulas.md").read_text()
    functions = re.findall(r"`((?:losses|methods|models|postprocess|judging)\.[\w.]+)`", text)
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(functions) > 20 and len(tests) > 15
    for name in functions:
        module, _, function = name.rpartition(".")
        assert hasattr(importlib.import_module(f"gan_seg_jax.{module}"), function), name
    for file, name in tests:
        defined = {node.name for node in ast.parse((repository / file).read_text()).body if hasattr(node, "name")}
        assert not name or name in defined, f"{file}::{name}"


def test_every_row_has_a_function_and_a_test(repository):
    rows = [line for line in (repository / "docs" / "formulas.md").read_text().splitlines() if line.startswith("| ")]
    for row in rows:
        cells = row.strip("| ").split(" | ")
        assert len(cells) == 3, row
        assert cells[0] == "formula" or "tests/" in cells[2], row
