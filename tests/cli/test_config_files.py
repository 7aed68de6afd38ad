"""Groups of fields on the command line, a user's own folder `configs`, and parts that are no configs."""

import sys

import pytest

from gan_seg_jax import train
from gan_seg_jax.augment.fields import POLICIES
from gan_seg_jax.cli import commands, config_files
from tests import tiny_runs

SUPERVISED = "--config=configs/supervised_seg.py:smoke"
OWN = """
from configs import {imports}

def get_config(arg=None):
    {first}
    return supervised_seg.get_config(arg)
"""


@pytest.fixture
def configured(tmp_path, monkeypatch, repository):
    """Return a function of arguments of main that returns the config that would be trained, or how the command ended.

    It runs as an installed package does: the project's folder is not the current one, and the current one comes first.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trained = []
    monkeypatch.setattr(train, "train_and_evaluate", lambda config, workdir: trained.append(config))
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "configs"}

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
            del sys.modules[name]

    def run(*args):
        forget()
        trained.clear()
        outcome = tiny_runs.command("main", *args)
        return trained[0] if trained else outcome

    yield run
    forget()
    sys.modules.update(modules)


def refused(outcome, *words):
    assert outcome.code == 2 and outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome
    assert all(word in outcome.err for word in words), outcome.err


@pytest.mark.parametrize(
    ("group", "single"),
    [
        (["--config.augment={'scale': (0.5, 2.0)}"], ["--config.augment.scale=(0.5, 2.0)"]),
        (["--config.augment", "{'scale': [0.5, 2.0]}"], ["--config.augment.scale=(0.5, 2.0)"]),
        (['--config.augment={"flip_vertical": true}'], ["--config.augment.flip_vertical=True"]),
        (
            ["--config.losses={'weights': {'dice': 1}, 'focal_gamma': 3}"],
            ["--config.losses.weights.dice=1", "--config.losses.focal_gamma=3"],
        ),
        (["--config.losses.weights={'dice': 1}"], ["--config.losses.weights.dice=1"]),
        (
            ["--config.optimizers.segmenter={'learning_rate': 1e-3, 'schedule': 'cosine'}"],
            ["--config.optimizers.segmenter.learning_rate=0.001", "--config.optimizers.segmenter.schedule=cosine"],
        ),
        (["--config.labelled={'fraction': 0.5}"], ["--config.labelled.fraction=0.5"]),
        (
            ["--config.networks={'segmenter': {'channels': (8, 8), 'encoder_convs': 1}}"],
            ["--config.networks.segmenter.channels=(8, 8)", "--config.networks.segmenter.encoder_convs=1"],
        ),
        # Of a field given twice the last one counts, whichever form it has.
        (
            ["--config.augment.scale=(1, 3)", "--config.augment={'scale': (1, 2), 'contrast': 0.5}"],
            ["--config.augment.scale=(1, 2)", "--config.augment.contrast=0.5"],
        ),
        (
            ["--config.augment={'scale': (1, 2), 'contrast': 0.5}", "--config.augment.scale=(1, 3)"],
            ["--config.augment.scale=(1, 3)", "--config.augment.contrast=0.5"],
        ),
        (
            ["--config.augment={'scale': (1, 2)}", "--config.augment={'contrast': 0.5}"],
            ["--config.augment.scale=(1, 2)", "--config.augment.contrast=0.5"],
        ),
    ],
    ids=str,
)
def test_a_group_of_fields_is_merged(configured, group, single):
    expected, plain = configured(SUPERVISED, *single), configured(SUPERVISED)
    assert configured(SUPERVISED, *group) == expected != plain
    assert set(expected.augment) == set(plain.augment)


@pytest.mark.parametrize("place", [0, 1])
def test_a_policy_sets_its_fields_and_those_given_beside_it_hold(configured, place):
    policy, own = "--config.augment.policy=strong", "--config.augment={'blur': 0.0, 'hue': 0.3}"
    found, plain = (configured(SUPERVISED, *words) for words in ([own, policy][:: 1 - 2 * place], []))
    expected = {**plain.augment, **POLICIES["strong"], "policy": "strong", "blur": 0.0, "hue": 0.3}
    assert dict(found.augment) == expected
    last = configured(SUPERVISED, policy, "--config.augment={'policy': 'light'}")
    assert dict(last.augment) == {**plain.augment, **POLICIES["light"], "policy": "light"}
    assert dict(configured(SUPERVISED, policy, "--config.augment.policy=").augment) == dict(plain.augment)
    refined = configured(
        "--config=configs/refine_seg.py:smoke,frozen", "--config.prior_runs.segmenter.augment.policy=medical"
    )
    assert refined.prior_runs.segmenter.augment.elastic == POLICIES["medical"]["elastic"] != refined.augment.elastic


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("augment.policy=stron", ("augment.policy", "strong", "light", "medical")),
        ("augment={'scle': (1, 2)}", ("scle", "scale")),
        ("augmnt={'scale': (1, 2)}", ("augmnt", "augment")),
        ("losses={'weihts': {'dice': 1}}", ("weihts", "weights")),
        ("losses={'weights': {'dise': 1}}", ("dise", "dice")),
        ("augment={'brightness': 'much'}", ("augment.brightness", "much")),
        ("augment={'brightness': None}", ("augment.brightness", "None")),
        ("augment={1: 2}", ("augment", "1")),
        ("augment={}", ("augment", "nothing")),
        ("augment=3", ("augment", "group")),
        ("augment={'scale'", ("augment", "group")),
        ("steps={'a': 1}", ("steps.a",)),
        ("augment.scale={'a': 1}", ("augment.scale.a",)),
        ("pretrained.generator=pip:vgg16", ("pretrained.generator", "networks.generator", "none")),
        ("pretrained={'generator': 'pip:vgg16'}", ("pretrained.generator", "networks.generator", "none")),
    ],
)
def test_what_is_wrong_in_a_group_is_named(configured, flag, words):
    refused(configured(SUPERVISED, f"--config.{flag}"), *words)


def test_groups_in_a_file_of_flags_are_merged(configured, tmp_path):
    (tmp_path / "flags.txt").write_text("--config.augment={'scale':(1,2)}\n")
    assert configured(SUPERVISED, f"--flagfile={tmp_path / 'flags.txt'}") == configured(
        SUPERVISED, "--config.augment.scale=(1,2)"
    )


def test_a_string_in_braces_that_is_no_dict_is_left_alone():
    words = ["--config.data_dir={here}", "--other={'a':1}", "--config.class_names={1, 2}"]
    assert list(config_files.single_fields(words)) == words == commands.last_values(words)


@pytest.mark.parametrize("init", [False, True], ids=["folder", "package"])
def test_an_own_folder_configs(configured, tmp_path, repository, init):
    """Its files find each other first, then the project's; the project's do not see it."""
    own = tmp_path / "configs"
    own.mkdir()
    if init:
        (own / "__init__.py").write_text("from configs import mine_parts\n")
    (own / "mine_parts.py").write_text("SEED = 7\n")
    (own / "mine.py").write_text(
        OWN.format(imports="common, mine_parts, supervised_seg", first="assert mine_parts.SEED == 7 and common.adam")
    )
    plain = configured(f"--config={repository / 'configs' / 'supervised_seg.py'}:smoke")
    assert plain.method == "supervised"
    assert configured("--config=configs/mine.py:smoke") == plain
    assert configured(SUPERVISED) == plain  # the project's, by its name in the README

    (own / "common.py").write_text("MINE = True\n")
    (own / "mine.py").write_text(OWN.format(imports="common, supervised_seg", first="assert common.MINE"))
    assert configured("--config=configs/mine.py:smoke") == plain
    assert configured(SUPERVISED) == plain
    (tmp_path / "elsewhere.py").write_text(OWN.format(imports="common, supervised_seg", first="assert common.MINE"))
    assert configured("--config", "elsewhere.py:smoke") == plain

    refused(configured("--config=configs/mien.py"), "configs/mine.py", "cgan_seg.py")


@pytest.mark.parametrize("part", ["common", "discriminators", "networks", "__init__"])
def test_a_part_is_no_config(configured, repository, part):
    outcome = configured(f"--config={repository / 'configs' / part}.py")
    refused(outcome, f"{part}.py is no config", "cgan_seg.py", "classical.py")
    assert not any(f" {other}.py" in outcome.err for other in ("common", "discriminators", "networks", "__init__"))


def test_a_config_that_returns_nothing_is_named(configured, tmp_path):
    (tmp_path / "empty.py").write_text("def get_config():\n    pass\n")
    refused(configured("--config=empty.py"), "empty.py", "get_config", "None")


def test_fields_are_set_by_former_names_too():
    words = ["--config.judge=X", "-config.prior_runs.judge.judge=judge", "--config.judge", "--workdir=a.judge=b"]
    present = ["--config.feature_network=X", "-config.prior_runs.feature_network.feature_network=judge"]
    assert config_files.prepare(words) == [*present, "--config.feature_network", "--workdir=a.judge=b"]


def test_a_config_file_with_a_former_name_is_told_the_present_one(configured, tmp_path):
    (tmp_path / "configs").mkdir()
    own = "config = supervised_seg.get_config(arg); config.judge = 'x'; return config"
    text = OWN.format(imports="supervised_seg", first=own)
    (tmp_path / "configs" / "own.py").write_text(text)
    outcome = configured("--config=configs/own.py:smoke")
    assert outcome.code == 2 and "judge is feature_network now" in outcome.err, outcome.err
