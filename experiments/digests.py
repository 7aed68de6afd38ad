"""Print what smoke runs end in, to the bit: the SHA-256 of each final state and of its scores.

    python experiments/digests.py [--output=FILE] [--runs=FOLDER] [CONFIG ...]

A change that is meant to change no result is run before and after on the same machine, by the same versions, and gives
the same lines.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = (
    "cgan_seg:smoke",
    "cgan_seg:smoke,colors",
    "supervised_seg:smoke,deeplabv3plus",
    "adversarial_seg:smoke",
    "semi_seg:smoke,advsemiseg",
    "semi_seg:smoke,s4gan",
    "semi_seg:smoke,mean_teacher",
    "semi_seg:smoke,fixmatch",
    "semi_seg:smoke,unimatch",
    "semi_seg:smoke,cps",
    "refine_seg:smoke,unet",
    "synthesis:smoke,spade",
    "synthesis:smoke,oasis",
    "dcgan:smoke,joint",
    "dcgan:smoke,stylegan2,joint",
    "augment_seg:smoke,pix2pix",
    "segan:smoke",
    "adapt_seg:smoke,multi",
    "adapt_seg:smoke,advent,multi",
    "adapt_seg:smoke,self_training",
    "translation:smoke",
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")
SCORES = ("test", "val", "best_step", "steps", "skipped_steps", "parameters")


def digest(values) -> str:
    """Return the SHA-256 over a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def train(config: str, workdir: Path) -> dict:
    """Run one config to its end and return the digests of its newest checkpoint and of its scores."""
    name, _, words = config.partition(":")
    command = [sys.executable, "-m", "gan_seg_jax.main", f"--config=configs/{name}.py:{words}", f"--workdir={workdir}"]
    with open(f"{workdir}.log", "w") as log:
        subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)
    newest = max(
        (path for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    meta = json.loads((newest / "meta" / "metadata").read_text())
    summary = json.loads((workdir / "summary.json").read_text())
    return {
        "step": meta["step"],
        "state": digest(meta["digests"]),  # the SHA-256 of every array, by its path
        "scores": digest({key: summary[key] for key in SCORES if key in summary}),
        "config": hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest(),
    }


def main() -> None:
    """Train each config in a folder of its own and write a table of digests as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--runs", type=Path, help="a folder for the runs; by default one that is removed")
    arguments = parser.parse_args()
    record = {
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "runs": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.runs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for config in arguments.configs:
            record["runs"][config] = train(config, folder / config.replace(":", "-").replace(",", "-"))
            print(config, record["runs"][config], flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
