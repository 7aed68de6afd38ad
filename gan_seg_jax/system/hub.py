"""Repositories of Hugging Face, by the optional package huggingface_hub; what goes wrong there becomes a sentence."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_seg_jax.errors import InputError

PREFIX = "hf:"


def file(source: str, name: str, *, missing: str) -> Path:
    """Return where a file of a repository lies on this machine; it is downloaded if it does not yet.

    Args:
        source: "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION".
        name: of the file.
        missing: what the error says behind "SOURCE has no NAME" where the repository lacks it.

    Raises:
        InputError: it cannot be had, or the package is missing.
    """
    repository, _, revision = source.removeprefix(PREFIX).partition("@")
    with _connected(source, "downloaded") as package:
        errors = package.errors
        try:
            return Path(package.hf_hub_download(repository, name, revision=revision or None))
        except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError, hence first
            raise InputError(
                f"{source} is not in the local cache and Hugging Face cannot be reached; download the file elsewhere."
            ) from error
        except errors.EntryNotFoundError as error:
            raise InputError(f"{source} has no {name}{missing}") from error


def upload(folder: Path, target: str, *, private: bool) -> str:
    """Upload the files of a folder as one commit; a repository that is not there is made. Return its address.

    Args:
        folder: the folder.
        target: "hf:OWNER/NAME".
        private: whether nobody else may see it: a repository that is made is private, and a public one refused.

    Raises:
        InputError: the name is none, it is public or cannot be written, or the package is missing.
    """
    check_name(target)
    repository = target.removeprefix(PREFIX)
    with _connected(target, "written") as package:
        api = package.HfApi()
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        if private and not api.model_info(repository).private:  # it was there
            raise InputError(
                f"{target} is public, so nothing was uploaded; make it private in its settings at {address}, name "
                "another repository, or give --noprivate to let everybody see the run."
            )
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a run of gan_seg_jax")
        return address


def check_name(target: str) -> None:
    """Check the name of a repository that is to be written.

    Raises:
        InputError: it is none.
    """
    if re.fullmatch(r"hf:[\w.-]+/[\w.-]+", target, re.ASCII) is None:
        raise InputError(f"{target[:100]!r} is no repository; expected hf:OWNER/NAME.")


@contextlib.contextmanager
def _connected(source: str, done: str) -> Iterator[Any]:
    """Yield the package; what it raises within becomes an InputError."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise InputError(
            f"{source} needs the package huggingface_hub (pip install huggingface_hub); "
            "or take the files there yourself and name their path."
        ) from error
    try:
        yield huggingface_hub
    except InputError:
        raise
    except Exception as error:  # HTTP, permissions, names: the package has dozens of types, and changes them
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{source} cannot be {done}: {reason}") from error
