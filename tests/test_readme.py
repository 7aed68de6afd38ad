"""What the README says exists, and its commands parse; so do those in the configs' docstrings."""

import importlib
import re
import shlex
import subprocess
import sys

NAMED = re.compile(r"`((?:gan_seg_jax|configs|experiments|tests|docs)/[\w./]*|\w+\.(?:md|txt|toml|cff))`")
COMMAND = re.compile(r"python -m (gan_seg_jax\.\w+)((?:\\\n|[^\n`|&;])*)")


def _commands(text):
    """Return (module, flags) of every command of ours in a text, patches aside."""
    text = re.sub(r"```diff.*?```", "", text, flags=re.S)
    return [(module, shlex.split(rest.replace("\\\n", " "), comments=True)) for module, rest in COMMAND.findall(text)]


def _map_of_the_code(text):
    """Return the paths that the README's map names; indented lines are below the last folder at the margin."""
    block = text.split("## Map of the code")[1].split("```")[1]
    paths, folder = [], ""
    for line in block.strip().splitlines():
        names = re.findall(r"[\w]+(?:/|\.py)(?=[\s,;]|$)", line)
        if not line.startswith(" "):
            folder = names.pop(0)
            paths.append(folder)
        paths += [folder + name for name in names]
    return paths


def test_files_that_the_readme_names_exist(repository):
    """Both those in running text and those of the map."""
    text = (repository / "README.md").read_text()
    named = NAMED.findall(text) + re.findall(r"\]\((?!http)([^)#]+)\)", text) + _map_of_the_code(text)
    assert len(named) > 20
    made_by_runs = ("summary.json", "metrics.jsonl")
    missing = [name for name in named if name not in made_by_runs and not (repository / name).exists()]
    assert not missing


def test_commands_parse(repository):
    """Modules, config files, their words, fields and flags exist; every config says how it is run."""
    configs = [path for path in (repository / "configs").glob("*.py") if path.stem not in ("__init__", "common")]
    for source in (repository / "README.md", *configs):
        commands = _commands(source.read_text())
        assert commands, source
        _check_commands(repository, source.name, commands)


def _check_commands(repository, source, commands):
    for module, flags in commands:
        code = (repository / (module.replace(".", "/") + ".py")).read_text()
        if "define_flags()" in code:
            code += (repository / "gan_seg_jax" / "inference" / "options.py").read_text()
        config = None
        for flag in flags:
            name, _, value = flag.removeprefix("--").partition("=")
            if name == "config":
                path, _, words = value.partition(":")
                config = importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config(words)
            elif name.startswith("config."):
                node = config
                for part in name.split(".")[1:]:
                    assert part in node, f"{source}: {flag}"
                    node = node[part]
            else:
                assert flag.startswith("--") and f'"{name}"' in code, f"{source}: {flag}"


def test_the_readmes_method_is_a_method(repository, tmp_path):
    """The example of "Add a method" applies to the checkout as a patch; the method then trains, and is tested."""
    text = (repository / "README.md").read_text()
    _, patch, after = re.split(r"```(?:diff\n)?", text.split("## Add a method")[1])
    for folder in ("gan_seg_jax", "configs", "tests", "pyproject.toml"):
        subprocess.run(["cp", "-r", str(repository / folder), str(tmp_path)], check=True)
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=tmp_path, check=True)
    overrides = ["--config.scenes.counts=(8, 4, 4)", "--config.scenes.size=(32, 32)", "--config.steps=2"]
    overrides += ["--config.canvas_size=(32, 32)", "--config.crop_size=(32, 32)", "--config.tensorboard=False"]
    overrides += ["--config.networks.segmenter={'channels': (4, 8), 'encoder_convs': (0, 1), 'decoder_convs': (1,)}"]
    command = [sys.executable, "-m", "gan_seg_jax.main", "--config=configs/mask_critic.py:smoke", "--workdir=run"]
    done = subprocess.run([*command, *overrides], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    test = re.search(r"`python (-m pytest [^`]*mask_critic[^`]*)`", after)[1].split()
    found = subprocess.run(
        [sys.executable, *test, "--collect-only", "-q", "-n", "0"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "test_method_trains[mask_critic]" in found.stdout, found.stdout + found.stderr
