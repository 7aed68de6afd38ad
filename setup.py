"""Which packages are installed; everything else is in pyproject.toml.

The folder configs becomes a package within gan_seg_jax, for one of this name beside it would be in everybody's way.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gan_seg_jax*"]), "gan_seg_jax.configs"],
    package_dir={"gan_seg_jax.configs": "configs"},
)
