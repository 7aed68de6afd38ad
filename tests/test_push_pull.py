"""What is pushed comes back by `pull`, from a folder and from a stand-in for Hugging Face, and labels as the run."""

import json
import os
import shutil
import sys
import types

import numpy as np
import pytest

import gan_seg_jax as gs
from tests import tiny_runs

FILES = {"README.md", "config.json", "export.json", "model.safetensors"}


def push(tiny, repository, *flags):
    return tiny_runs.command("push", f"--workdir={tiny.cgan}", f"--repository={repository}", *flags)


def pull(repository, output):
    return tiny_runs.command("pull", f"--repository={repository}", f"--output={output}")


@pytest.fixture(scope="module")
def pushed(tiny, tmp_path_factory):
    """The tiny run in a folder of its own."""
    folder = tmp_path_factory.mktemp("pushed") / "folder"
    outcome = push(tiny, folder, "--licence=cc-by-4.0")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stand in for huggingface_hub: a folder for each repository, and what was asked of it."""

    class Api:
        def create_repo(self, repository, *, private, exist_ok):
            hub.asked.append((repository, private, exist_ok))
            hub.private.setdefault(repository, private)
            return f"https://huggingface.co/{repository}"

        def model_info(self, repository):
            return types.SimpleNamespace(private=hub.private[repository])

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, hub.root / repo_id, dirs_exist_ok=True)

    def download(repository, name, revision):
        hub.asked.append((repository, name, revision))
        if not (hub.root / repository / name).is_file():
            raise errors.EntryNotFoundError("404")
        return hub.root / repository / name

    errors = types.ModuleType("huggingface_hub.errors")
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (FileNotFoundError, errors.EntryNotFoundError), {})
    hub = types.ModuleType("huggingface_hub")
    hub.errors, hub.HfApi, hub.hf_hub_download = errors, Api, download
    hub.root, hub.asked, hub.private = tmp_path / "hub", [], {}
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return hub


def test_what_was_pushed_to_a_folder_comes_back(tiny, pushed, tmp_path):
    assert {path.name for path in pushed.iterdir()} == FILES
    assert "license: cc-by-4.0" in (pushed / "README.md").read_text()
    outcome = pull(pushed, tmp_path / "pulled")
    assert outcome.code == 0 and "labels sky, road, car (cgan, step 6)" in outcome.out, outcome.err
    for name in FILES:
        assert (tmp_path / "pulled" / name).read_bytes() == (pushed / name).read_bytes()
    image = tiny_runs.draw(5, (16, 24))[0]
    ours, theirs = (gs.load(folder)(image).probabilities for folder in (tmp_path / "pulled", tiny.cgan))
    np.testing.assert_array_equal(ours, theirs)


def test_a_repository_is_made_private_and_filled(tiny, hub, tmp_path):
    outcome = push(tiny, "hf:somebody/streets")
    assert outcome.code == 0 and "https://huggingface.co/somebody/streets" in outcome.out, outcome.err
    assert hub.asked == [("somebody/streets", True, True)]
    assert {path.name for path in (hub.root / "somebody/streets").iterdir()} == FILES
    assert push(tiny, "hf:somebody/streets", "--noprivate").code == 0 and hub.asked[-1][1] is False
    hub.asked.clear()
    outcome = pull("hf:somebody/streets@v2", tmp_path / "pulled")
    assert outcome.code == 0, outcome.err
    assert {name for _, name, _ in hub.asked} == FILES and {revision for *_, revision in hub.asked} == {"v2"}
    assert gs.load(tmp_path / "pulled")(tiny_runs.draw(5, (16, 24))[0]).labels.shape == (16, 24)


def test_a_public_repository_is_written_only_where_that_is_asked_for(pushed, hub):
    hub.private["a/b"] = False
    words = (f"--workdir={pushed}", "--repository=hf:a/b")
    outcome = tiny_runs.command("push", *words)
    assert outcome.code == 2 and "hf:a/b is public, so nothing was uploaded; make it private" in outcome.err
    assert not (hub.root / "a/b").exists()
    assert tiny_runs.command("push", *words, "--noprivate").code == 0 and (hub.root / "a/b" / "README.md").is_file()


@pytest.mark.parametrize(
    ("repository", "flags", "message"),
    [
        ("hf:nobody", (), "'hf:nobody' is no repository; expected hf:OWNER/NAME"),
        ("hf:a/b@v1", (), "'hf:a/b@v1' is no repository"),
        ("hf:a/../b", (), "is no repository"),
        ("hf:a/b", ("--licence=all rights\nreserved",), "expected a short name"),
        ("", (), "--repository is missing"),
    ],
)
def test_names_that_cannot_be_are_refused_at_once(tiny, hub, repository, flags, message):
    outcome = push(tiny, repository, *flags)
    assert outcome.code == 2 and message in outcome.err and not hub.asked


def test_what_goes_wrong_is_said_and_leaves_nothing(tiny, hub, pushed, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("401 Client Error: Unauthorized\nfor url")

    monkeypatch.setattr(hub.HfApi, "create_repo", refuse)
    outcome = push(tiny, "hf:a/b")
    assert outcome.code == 2 and "hf:a/b cannot be written: 401 Client Error: Unauthorized" in outcome.err
    outcome = pull("hf:a/nothing", tmp_path / "out")
    assert outcome.code == 2 and "hf:a/nothing has no config.json; expected what `gan-seg push`" in outcome.err
    outcome = pull(tiny.data, tmp_path / "out")
    assert outcome.code == 2 and "has no config.json" in outcome.err
    shutil.copytree(pushed, tmp_path / "changed")
    (tmp_path / "changed" / "model.safetensors").write_bytes(b"x" * 1000)
    outcome = pull(tmp_path / "changed", tmp_path / "out")
    assert (
        outcome.code == 2 and f"{tmp_path / 'changed'}/model.safetensors differs from what was exported" in outcome.err
    )
    facts = json.loads((pushed / "config.json").read_text())
    facts["networks"]["generator"]["channels"] = [4, 16]
    shutil.copy(pushed / "model.safetensors", tmp_path / "changed")
    (tmp_path / "changed" / "config.json").write_text(json.dumps(facts))
    assert pull(tmp_path / "changed", tmp_path / "out").code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"changed"}


def test_links_and_huge_files_are_not_fetched(pushed, tmp_path):
    for name, make in (
        ("link", lambda card: card.symlink_to("/etc/hostname")),
        ("huge", lambda card: (card.touch(), os.truncate(card, 2**30))),
    ):
        shutil.copytree(pushed, tmp_path / name)
        (tmp_path / name / "README.md").unlink()
        make(tmp_path / name / "README.md")
    outcome = pull(tmp_path / "link", tmp_path / "out")
    assert outcome.code == 2 and "has no README.md" in outcome.err
    outcome = pull(tmp_path / "huge", tmp_path / "out")
    assert outcome.code == 2 and "has more than 4194304 bytes" in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"link", "huge"}


def test_what_was_pulled_keeps_its_card_when_it_is_pushed_again(tiny, pushed, hub):
    again = lambda *flags: tiny_runs.command("push", f"--workdir={pushed}", "--repository=hf:a/b", *flags)
    assert again().code == 0
    assert (hub.root / "a/b" / "README.md").read_text() == (pushed / "README.md").read_text()
    outcome = again("--licence=mit")
    assert outcome.code == 2 and "whose card says their licence" in outcome.err


def test_without_the_package_the_command_says_how_to_install_it(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for outcome in (push(tiny, "hf:a/b"), pull("hf:a/b", tmp_path / "out")):
        assert outcome.code == 2 and "pip install huggingface_hub" in outcome.err
    assert not list(tmp_path.iterdir())
