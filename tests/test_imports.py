"""Imports go one way: each module may import what is below it, and within a level only what is listed."""

import ast
from pathlib import Path

import pytest

PACKAGE = "gan_seg_jax"
# For everyone; among themselves, they import errors alone.
BASE = {"errors", "files", "resample", "config", "config_fields", "process", "faults", "progress"}
LEVELS = {
    "augment": 0,
    "noise": 0,
    "judging_panels": 0,
    "metrics": 0,
    "writer": 0,
    "panels": 0,
    "tiling": 0,
    "diff_augment": 0,
    "mixing": 0,
    "data.catalog": 0,
    "models.layers": 0,
    "models.convolution": 0,
    "models.pooling": 0,
    "models.pretrained": 0.5,
    "models.stages": 0.5,
    "models.aspp": 0.6,
    "models.resnet": 0.6,
    "models.mobilenet": 0.6,
    "models.vgg": 0.6,
    "models.backbones": 0.7,
    "integrity": 1,
    "state": 2,
    "optimizers": 2,
    "parallel": 2,
    "game": 2.5,
    "makers": 2.5,
    "train_step": 4,
    "checkpoint": 4,
    "checkpoint_store": 3.9,
    "commands": 5,
    "inference": 5,
    "inference_options": 5,
    "scoring": 5,
    "workdirs": 5,
    "preemption": 5,
    "report": 5,
    "evaluate": 5,
    "config_files": 5,
    "feature_space": 5,
    "generation": 5,
    "translation_scores": 5,
    "judging_views": 5,
    "start": 5.5,
    "step_log": 0,
    "train": 6,
    "predict": 6,
    "classical": 6,
    "class_weights": 6,
    "crf_search": 6,
    "sample": 6,
    "judge": 6,
    "copies": 6,
    "main": 7,
}
# A family's modules have its level unless they are listed above, so that a new method or network needs no entry.
FAMILIES = {"losses": 0, "postprocess": 0, "judging": 0, "models": 1, "data": 1, "baselines": 1, "methods": 3}
# Arrows within a level, besides those of a family's __init__ to its members. The files of these families and of level 5
# import each other, without cycles.
WITHIN = {("models.layers", "models.convolution"), ("models.layers", "models.pooling")}
FREE_WITHIN = {"data", "losses", "postprocess", "baselines", 5}
METHODS_MAY = {"models", "losses", "augment", "diff_augment", "mixing", "noise", "state", "game", "makers"}


def modules(root: Path) -> dict[str, Path]:
    """Return name below the package -> file; a folder's own __init__ has the folder's name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imported(text: str, known: set[str]) -> set[str]:
    """Return the names, below the package, of the modules that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] != PACKAGE:
                continue
            below = name.split(".")[1:]
            while below and ".".join(below) not in known:
                below.pop()  # a name inside of a module
            if below:
                found.add(".".join(below))
    return found


def allowed(importer: str, target: str) -> bool:
    """Return whether `importer` may import `target`."""
    if target in BASE:
        return importer not in BASE or (importer != "errors" and target == "errors")
    if importer in BASE:
        return False
    family = lambda name: name.split(".")[0]
    if family(importer) == "methods" and importer != "methods":
        return family(target) in METHODS_MAY
    if level(importer) == level(target):
        same = family(importer) == family(target)
        if (importer, target) in WITHIN or (same and importer in FAMILIES):
            return True
        return (same and family(importer) in FREE_WITHIN) or level(importer) in FREE_WITHIN
    return level(importer) > level(target)


def level(name: str) -> int:
    """Return the level of a module."""
    return LEVELS[name] if name in LEVELS else FAMILIES[name.split(".")[0]]


def test_every_module_has_a_level(repository):
    found = set(modules(repository)) - BASE
    unknown = {name for name in found if name not in LEVELS and name.split(".")[0] not in FAMILIES}
    assert not unknown, "give these modules a level in LEVELS"
    assert not set(LEVELS) - found, "these modules are gone"


def test_imports_go_one_way(repository):
    files = modules(repository)
    wrong = [
        f"{importer} imports {target}"
        for importer, path in files.items()
        for target in sorted(imported(path.read_text(), set(files)) - {importer})
        if not allowed(importer, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles(repository):
    """Within the levels that are free, too, no module reaches itself."""
    files = modules(repository)
    arrows = {name: imported(path.read_text(), set(files)) - {name} for name, path in files.items()}
    # A member of a family imports the family's __init__ by being in it; that is not an arrow of ours.
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        path.append(name)
        for target in sorted(arrows[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in sorted(arrows):
        visit(name)


def test_nobody_imports_tensorflow_or_pytorch(repository):
    for path in [*(repository / PACKAGE).rglob("*.py"), *(repository / "configs").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"tensorflow", "torch", "torchvision"}, path


def test_experiments_call_the_command_line(repository):
    for path in sorted((repository / "experiments").rglob("*.py")):
        if path.parent.name == "benchmark":
            continue  # times single parts
        assert not imported(path.read_text(), set(modules(repository))), path


def test_configs_import_errors_only(repository):
    for path in sorted((repository / "configs").rglob("*.py")):
        assert imported(path.read_text(), set(modules(repository))) <= {"errors"}, path


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("losses.adversarial", "from gan_seg_jax.models import layers"),
        ("methods.cgan", "from gan_seg_jax.methods import supervised"),
        ("methods.cgan", "import gan_seg_jax.data.pipeline"),
        ("methods.cgan", "def f():\n    from gan_seg_jax.train_step import train_step"),
        ("state", "from gan_seg_jax import parallel"),
        ("models.unet", "from gan_seg_jax.models.discriminators import PatchGAN"),
        ("checkpoint", "from gan_seg_jax import train_step"),
        ("errors", "from gan_seg_jax import config"),
        ("train", "from gan_seg_jax import main"),
    ],
)
def test_a_wrong_arrow_is_found(importer, text, repository):
    targets = imported(text, set(modules(repository)))
    assert targets
    assert not any(allowed(importer, target) for target in targets)
