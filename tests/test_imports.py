"""Imports go one way, by folder: each may import what stands below it; ARCHITECTURE.md's table says the same."""

import ast
import re
from pathlib import Path

import pytest

from gan_seg_jax.__main__ import ALIASES, COMMANDS

PACKAGE = "gan_seg_jax"
# Modules that stand together, as if they were a folder of their own. Those of "fields" check a config before JAX is
# loaded, so that they import nothing of ours but errors and labels.
GROUPS = {
    "fields": {
        "data.fields",
        "augment.fields",
        "losses.fields",
        "training.fields",
        "optimizer_fields",
    },
    "config": {"config", "config_fields"},
    "state": {"state", "optimizers", "parallel"},
    "commands": {"__main__", *COMMANDS.values(), *ALIASES},
}
# From the bottom to the top: a folder may import those of the levels below its own, and none of its own level.
LEVELS = (
    {"errors", "labels"},
    {"fields", "phases"},
    {"system", "config", "metrics"},
    {"augment", "losses", "pictures", "postprocess"},
    {"models", "data", "baselines"},
    {"state", "inspection", "preparing"},
    {"methods"},
    {"runs", "train_step"},
    {"inference"},
    {"judging"},
    {"tasks"},
    {"training"},
    {"train", "cli", "reporting", "exporting", "serving", "planning"},
    {"commands"},
)
# Within a folder its __init__ imports all. These are free but for cycles; in the others, all may import what is listed.
FREE = {"data", "losses", "postprocess", "baselines", "runs", "inference", "tasks", "training", "cli", "reporting"}
FREE |= {"inspection", "preparing", "exporting", "serving", "planning"}
SHARED = {
    "models": {
        "aspp",
        "attention",
        "backbones",
        "convnext",
        "convolution",
        "layers",
        "efficientnet_lite",
        "generators",
        "mix_transformer",
        "mobilenet",
        "network",
        "norms",
        "perturbation",
        "pooling",
        "pip_weights",
        "pretrained",
        "pspnet",
        "resnet",
        "rows",
        "stages",
        "torch_pickle",
        "vgg",
        "vision_transformer",
    },
    "methods": {"consistency", "game", "generators", "segmenter", "self_training", "two_domains"},
    "judging": {"surfaces"},
    "system": {"files", "process"},
    "pictures": {"png"},
    "augment": {"mixing", "photometric", "resample", "warp", "window"},
    "commands": {"memorization"},
}
METHODS_MAY = {"models", "losses", "augment", "state", "phases", "errors", "labels"}  # and what they share


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


def folder(name: str) -> str:
    """Return the folder of a module, or the group of one of the root."""
    first = name.split(".")[0]
    return next((group for group, members in GROUPS.items() if {name, first} & members), first)


def level(name: str) -> int:
    """Return the level of a module's folder."""
    return next(number for number, folders in enumerate(LEVELS) if folder(name) in folders)


def allowed(importer: str, target: str) -> bool:
    """Return whether `importer` may import `target`."""
    here, there = folder(importer), folder(target)
    if here == "methods" != importer and there != here:
        return there in METHODS_MAY
    if here != there:
        return level(importer) > level(target)
    return here in FREE or (importer == here and here not in GROUPS) or target.split(".")[-1] in SHARED.get(here, ())


def test_every_module_has_a_level(repository):
    found = {folder(name) for name in modules(repository)}
    assert found == set.union(*LEVELS), "give these folders a level in LEVELS, or take out those that are gone"


def test_the_table_in_the_architecture_is_this_one(repository):
    """Its rows name the folders of each level, and the modules of the groups."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \|$", (repository / "ARCHITECTURE.md").read_text(), re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(LEVELS) + 1))
    assert [set(re.findall(r"`(\w+)`", folders)) for _, folders, _ in rows] == list(LEVELS)
    named = {name.replace("/", ".") for _, _, text in rows for name in re.findall(r"`([\w/]+)\.py`", text)}
    assert named - {"train"} == set.union(*GROUPS.values())


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
        # But for what reads counts alone, and which commands need, too.
        assert imported(path.read_text(), set(modules(repository))) <= {"judging.bootstrap"}, path


def test_configs_import_what_is_light(repository):
    for path in sorted((repository / "configs").rglob("*.py")):
        assert imported(path.read_text(), set(modules(repository))) <= {"errors", *GROUPS["fields"]}, path


@pytest.mark.parametrize(
    ("importer", "text"),
    [
        ("losses.adversarial", "from gan_seg_jax.models import layers"),
        ("methods.cgan", "from gan_seg_jax.methods import supervised"),
        ("methods.cgan", "import gan_seg_jax.data.pipeline"),
        ("methods.cgan", "def f():\n    from gan_seg_jax.train_step import train_step"),
        ("state", "from gan_seg_jax import parallel"),
        ("models.unet", "from gan_seg_jax.models.discriminators import PatchGAN"),
        ("runs.checkpoint", "from gan_seg_jax import train_step"),
        ("errors", "from gan_seg_jax import config"),
        ("system.files", "from gan_seg_jax.system import progress"),
        ("judging.views", "from gan_seg_jax.tasks import segmentation"),
        ("evaluate", "from gan_seg_jax import predict"),
        ("train", "from gan_seg_jax import main"),
    ],
)
def test_a_wrong_arrow_is_found(importer, text, repository):
    targets = imported(text, set(modules(repository)))
    assert targets
    assert not any(allowed(importer, target) for target in targets)
