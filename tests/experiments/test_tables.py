"""The table scripts: every arm differs from its reference in what its table is about, and in nothing else."""

import argparse
import json
import runpy
import sys
from pathlib import Path

import pytest

from tests import tiny_runs

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))  # as for `python experiments/TABLE.py`

import comparison
import runner

EXPERIMENTS = Path(runner.__file__).parent
TABLES = sorted(path.stem for path in EXPERIMENTS.glob("*.py") if "runner.main(" in path.read_text())


def read(table, monkeypatch):
    """Return what a script hands to the runner: title, arms, and what it varies and holds fixed."""
    given = {}

    def main(script, title, arms, *, full=(), varies=(), fixed=(), rare=False):
        given.update(title=title, arms=arms, full=full, varies=varies, fixed=fixed)
        return 0

    monkeypatch.setattr(runner, "main", main)
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXPERIMENTS / f"{table}.py"), run_name="__main__")
    return given


@pytest.mark.parametrize("table", TABLES)
def test_arms_differ_in_what_the_table_is_about(table, monkeypatch):
    given = read(table, monkeypatch)
    monkeypatch.chdir(EXPERIMENTS.parent)
    for arms in filter(None, (given["arms"], given["full"])):
        check(arms, given["varies"], given["fixed"])


def check(arms, varies, fixed):
    """Check one profile of a table."""
    options = argparse.Namespace(override=[], workdir=Path("runs"), data_dir=Path("data"))
    configs = {}
    for arm in arms:
        flags = runner.filled(runner._arguments(arm, comparison.PROBE, options), runner._places(options))
        shown = tiny_runs.command("main", *flags, "--show_config")
        assert shown.code == 0, f"{arm.name}: {shown.err}"
        configs[arm.name] = json.loads(shown.out)
    found = comparison.compare(arms, configs, varies, fixed)
    segan = [arm.config for arm in arms if arm.config.startswith("configs/segan.py")]
    assert not segan or any(config.endswith("lambda0") for config in segan)
    games = [arm for arm in arms if arm.name.endswith("-lambda0")]
    for control in games:  # a game and its own path without it differ in the weight of the game alone
        game = next(arm for arm in arms if arm.name == control.name.removesuffix("-lambda0"))
        assert game.reference == control.name
        weights = ("losses.adversarial_weight", "losses.unlabelled_adversarial", "losses.self_training_weight")
        assert all(field.startswith(weights) for field in found[game.name])
