"""The notebook of the docs runs from top to bottom."""

import os

import pytest


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(repository):
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook")
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook")
    pytest.importorskip("ipykernel", reason="the extra notebook")
    path = repository / "docs" / "tour.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    env = {**os.environ, "PYTHONPATH": os.fspath(repository)}
    client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": os.fspath(path.parent)}})
    client.execute(env=env)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    text = " ".join(output.get("text", "") for output in outputs)
    assert len(pictures) == 4 and "mIoU" in text and "explained" in text
