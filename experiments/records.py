"""What is known of a cell: noted in its folder when it starts, gathered into one small record when it is over.

A record is a function of the run's folder alone, so a skipped cell writes the same bytes again. Folders of this machine
appear in it as `{workdir}`, `{data_dir}` and `.`.
"""

import base64
import datetime
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
START_FILE = "cell.json"
OF_COMMANDS = ("evaluation-*", "judging-*", "per_image-*", "crf.json")  # what commands on a finished run leave
PICTURE_BYTES = 200_000
BEFORE = r"""(?<![^\s'"=,:;(\[{])"""  # what may stand before a folder in a text, and behind it
BEHIND = r"""(?=[/\s'",:;)\]}]|\.?(?:\s|$))"""
CONFIG_FIELDS = (
    "method",
    "dataset",
    "canvas_size",
    "crop_size",
    "resize",
    "batch_size",
    "rounds",
    "dtype",
    "labelled",
    "source",
)
RENAMED = {"judge": "feature_network"}  # fields, by the last part of the names that they had before
GAME = ("discriminator_accuracy", "unlabelled_realness", "accepted_share", "confident_share")
MEASURES = ("seconds", "compile_seconds", "images_per_second", "steps", "best_step", "unimproved", "flops")
MEASURES += ("parameters", "skipped_steps", "labelled")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file in one move; the order of keys is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file, None if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def read_start(workdir: Path) -> dict[str, Any] | None:
    """Return what was noted when the cell in this folder started, None if none did."""
    return read_json(workdir / START_FILE)


def read_summary(workdir: Path) -> dict[str, Any] | None:
    """Return the summary of the run, None if it is not finished."""
    return read_json(workdir / "summary.json")


def present(arguments: Sequence[str]) -> list[str]:
    """Return arguments with fields that were renamed by their present names: the same run, whenever it was recorded."""
    parts = [argument.partition("=") for argument in arguments]
    return [present_field(field) + sign + value for field, sign, value in parts]


def present_field(field: str) -> str:
    """Return the name that a field, such as "config.judge", has now."""
    group, dot, name = field.rpartition(".")
    return group + dot + RENAMED.get(name, name)


def write_start(workdir: Path, *, arm: str, seed: int, arguments: Sequence[str], config: Mapping[str, Any]) -> None:
    """Note in the folder what is about to run, from which commit and where; a resumed cell adds a line to it.

    Args:
        workdir: folder of the run.
        arm: name of the cell's arm.
        seed: of the cell.
        arguments: of the command, placeholders of folders in place.
        config: what they ask for, as `--show_config` prints it, placeholders in place.
    """
    now = {"date": _now(), **git_state(ROOT)}
    start = read_start(workdir) if (workdir / "config.json").exists() else None
    if start is None:
        start = {
            "arm": arm,
            "seed": seed,
            "arguments": list(arguments),
            "config": config,
            **now,
            "resumed": [],
            "hardware": hardware(),
            "python": platform.python_version(),
            "exit_code": None,
            "message": "",
            "then": [],
            "load": [],
        }
    else:
        start = {**start, "resumed": [*start["resumed"], now], "exit_code": None, "message": ""}
    write_json(workdir / START_FILE, start)


def write_outcome(workdir: Path, exit_code: int, message: str) -> None:
    """Note how the cell ended."""
    write_json(workdir / START_FILE, {**read_start(workdir), "exit_code": exit_code, "message": message})


def write_load(workdir: Path, stretch: Mapping[str, Any]) -> None:
    """Note what the machine did in one stretch of the cell (`load.between`)."""
    start = read_start(workdir)
    write_json(workdir / START_FILE, {**start, "load": [*start.get("load", []), stretch]})


def finished_command(command: str, seconds: float, stretch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is noted of a command on a finished run.

    Args:
        command: its module and flags.
        seconds: wall time, start and compilation included.
        stretch: what the machine did meanwhile (`load.between`).
    """
    return {"command": command, "seconds": round(seconds, 1), "load": [stretch], **git_state(ROOT)}


def write_then(workdir: Path, done: Sequence[Mapping[str, Any]]) -> None:
    """Note which commands on the finished run are done, in their order."""
    write_json(workdir / START_FILE, {**read_start(workdir), "then": list(done), "exit_code": 0, "message": ""})


def _evaluations(workdir: Path) -> dict[str, Any]:
    """Return name -> contents of every `evaluation-NAME.json`; damaged ones are left out."""
    files = sorted(workdir.glob("evaluation-*.json"))
    found = {file.stem.removeprefix("evaluation-"): read_json(file) for file in files}
    return {name: _without_confusion(values) for name, values in found.items() if values is not None}


def _judgings(workdir: Path) -> dict[str, Any]:
    """Return split -> contents of every `judging-SPLIT.json` but for what it says of single images."""
    files = sorted(workdir.glob("judging-*.json"))
    found = {file.stem.removeprefix("judging-"): read_json(file) for file in files}
    return {
        split: {name: value for name, value in values.items() if name != "images"}
        for split, values in found.items()
        if values is not None
    }


def _validations(workdir: Path, score: str | None) -> list[list[Any]]:
    """Return [step, score] of every validation of the run, in their order."""
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        found = {line["step"]: line.get(score) for line in map(json.loads, lines) if line["split"] == "val"}
    except (OSError, ValueError, KeyError):
        return []
    return [[step, value] for step, value in sorted(found.items())] if score else []


def _game(workdir: Path) -> dict[str, float]:
    """Return what the last line of training says of a game, and of learning without labels: those of GAME it has."""
    try:
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        last = [line for line in lines if line["split"] == "train"][-1]
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return {name: last[name] for name in GAME if name in last}


def pack_counts(counts: np.ndarray) -> dict[str, Any]:
    """Return the counts of single images as a few kilobytes of JSON.

    Args:
        counts: int [n, k, 3]: of each image, true positives, false positives and false negatives of each class.

    Returns:
        {"shape": [n, k, 3], "data": base64 of zlib of the bytes of the counts as little-endian int32, the lowest bytes
        of all counts first, which packs better}.
    """
    planes = np.frombuffer(counts.astype("<i4").tobytes(), np.uint8).reshape(-1, 4).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return {"shape": list(counts.shape), "data": data}


def unpack_counts(packed: Mapping[str, Any]) -> np.ndarray:
    """Return what `pack_counts` was given, int64 [n, k, 3]."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8).reshape(4, -1)
    return np.frombuffer(planes.T.tobytes(), "<i4").astype(np.int64).reshape(packed["shape"])


def _image_counts(workdir: Path) -> dict[str, Any] | None:
    """Return the packed counts of the run's test images, None where it left none."""
    values = read_json(workdir / "image_counts-test.json")
    if values is None:
        return None
    counts = np.zeros((len(values["images"]), values["num_classes"], 3), np.int64)
    for image, classes in zip(counts, values["images"], strict=True):
        for number, of_class in classes.items():
            image[int(number)] = of_class
    return pack_counts(counts)


def make_record(workdir: Path, places: Mapping[str, Path]) -> dict[str, Any]:
    """Return the record of a cell that is over: finished, or failed with its exit code and message.

    Args:
        workdir: folder of the run.
        places: placeholder -> folder of this machine, put back wherever the run wrote the folder.
    """
    start, summary = read_start(workdir), read_summary(workdir)
    config_file = workdir / "config.json"
    config = without_places(json.loads(config_file.read_text()), places) if config_file.exists() else None
    result = summary or {}
    devices = result.get("devices")
    return {
        "arm": start["arm"],
        "seed": start["seed"],
        "status": "failed" if summary is None else "finished",
        "exit_code": start["exit_code"],
        "message": without_places(start["message"], places),
        "arguments": start["arguments"],
        **{name: start[name] for name in ("date", "commit", "dirty", "resumed")},
        "config_sha256": config and hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "config": start.get("config") or (config and _facts(config)),
        "versions": {"python": start["python"], **result.get("versions", {})},
        "hardware": {**start["hardware"], "devices": devices},
        **{name: result.get(name) for name in MEASURES},
        "flops": _flops(workdir),
        "load": start.get("load"),
        "selected_by": result.get("selected_by"),
        "validations": _validations(workdir, result.get("selected_by")),
        "game": _game(workdir),
        "scores": _scores(result),
        "then": start.get("then") or [],
        "evaluations": _evaluations(workdir),
        "judgings": _judgings(workdir),
        "image_counts": _image_counts(workdir),
    }


def _flops(workdir: Path) -> float | None:
    """Return the operations of all training steps, those of prior runs included; None where any are not known."""
    parts = [(read_summary(workdir) or {}).get("flops"), *(_flops(run) for run in workdir.glob("prior/*"))]
    return None if None in parts else sum(parts)


def _scores(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a summary; of confusion matrices those of the best step, each row (a true class) as text."""
    last, baselines = result.get("last"), result.get("baselines")
    found = {name: result.get(name) for name in ("val", "test")}
    texts = {
        name: {"confusion": [" ".join(map(str, row)) for row in scores["confusion"]]}
        for name, scores in found.items()
        if scores and "confusion" in scores
    }
    return {
        **{name: scores and scores | texts.get(name, {}) for name, scores in found.items()},
        "last": last and last | {name: _without_confusion(last[name]) for name in ("val", "test")},
        "baselines": baselines and {name: _without_confusion(scores) for name, scores in baselines.items()},
    }


def _without_confusion(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return scores and {name: value for name, value in scores.items() if name != "confusion"}


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader of the table must know of the config, for a run whose start did not note it as a whole."""
    names = [*CONFIG_FIELDS, *(["scenes"] if config["dataset"] == "scenes" else [])]
    return {name: config[name] for name in names}


def without_places(value: Any, places: Mapping[str, Path]) -> Any:
    """Put placeholders where a text, or any in a value in JSON form, names folders of this machine.

    The longest folder comes first; what only begins or ends like one (/data2, /mnt/data for /data) is another.
    """
    if isinstance(value, Mapping):
        return {name: without_places(one, places) for name, one in value.items()}
    if isinstance(value, list):
        return [without_places(one, places) for one in value]
    if not isinstance(value, str):
        return value
    folders = [(str(folder), mark) for mark, folder in places.items()] + [(str(ROOT), ".")]
    for folder, mark in sorted(folders, key=lambda pair: -len(pair[0])):
        value = re.sub(BEFORE + re.escape(folder) + BEHIND, lambda _, mark=mark: mark, value)
    return value


def git_state(root: Path) -> dict[str, Any]:
    """Return {"commit": its hash, "dirty": whether tracked or new files differ}; None where there is no git.

    The records themselves do not count: each cell of a table changes them.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", ".", ":(exclude)experiments/results")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def hardware() -> dict[str, Any]:
    """Return {"cpu": model, "cores": those this process may use, "memory_gib": of the machine}."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        memory = None
    return {"cpu": cpu, "cores": cores, "memory_gib": memory}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def keep_picture(workdir: Path, path: Path) -> None:
    """Copy the sample panel of the test split (of val where there is none), scaled down until it fits 200 KB."""
    from PIL import Image

    found = sorted(workdir.glob("samples/test-*.png")) or sorted(workdir.glob("samples/val-*.png"))
    if not found:
        return
    with Image.open(found[-1]) as opened:
        picture = opened.convert("RGB")
    size = picture.size
    while True:
        buffer = io.BytesIO()
        picture.resize(size, Image.Resampling.LANCZOS).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= PICTURE_BYTES:
            break
        scale = min(0.95, (PICTURE_BYTES / buffer.tell()) ** 0.5)
        size = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
    path.write_bytes(buffer.getvalue())
