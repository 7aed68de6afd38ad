"""Which packages are installed; everything else is in pyproject.toml.

The folder configs becomes a package within gan_seg_jax, for one of this name beside it would be in everybody's way.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup

# Modules that an earlier build left there and that are gone since would be installed, too.
shutil.rmtree(Path(__file__).resolve().with_name("build") / "lib", ignore_errors=True)

setup(
    packages=[*find_packages(include=["gan_seg_jax*"]), "gan_seg_jax.configs"],
    package_dir={"gan_seg_jax.configs": "configs"},
)
