"""Read a folder of records as the table that its script lists."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import claims
import records
from intervals import stopped_rising
from tables import RARE, Record


class RecordsError(Exception):
    """The folder holds no table; a sentence for people."""


class Table:
    """A table as its script lists it, with the records that there are.

    Attributes:
        folder: of the records.
        listed: contents of `table.json`.
        arms: arm -> its finished records, by seed.
        notes: a sentence for everything that is missing from them.
        unfair: a sentence for every comparison of runs with other labels.
        finished: the records of all arms.
        rows: arm or baseline -> seed -> the scores that count.
        references: arm -> the arm it is compared with, where it has one.
        published: arm -> {"value", "source"} of its published figure, where it names one.
    """

    def __init__(self, folder: Path):
        """Read a folder.

        Raises:
            RecordsError: it holds no table, or runs of several data sets.
        """
        self.folder = folder
        try:
            self.listed: Record = json.loads((folder / "table.json").read_text())
        except (OSError, ValueError) as error:
            raise RecordsError(
                f"{folder} holds no table.json, or a damaged one; expected a folder that a table script wrote."
            ) from error
        self.arms, self.notes = _read(folder, self.listed)
        self.finished = [record for found in self.arms.values() for record in found]
        self.sets = sorted({record["config"]["dataset"] for record in self.finished})
        if len(self.sets) > 1:
            raise RecordsError(
                f"{folder} holds runs on {', '.join(self.sets)}; a table is about one data set: make one for each."
            )
        more = _rare_iou if self.listed.get("rare") else lambda scores: {}
        self.rows = {
            name: {r["seed"]: (one := _reported(r)) | more(one) for r in found} for name, found in self.arms.items()
        }
        self.rows |= _baselines(self.finished)
        self.references = {arm["name"]: arm["reference"] for arm in self.listed["arms"] if arm["reference"]}
        self.published = {arm["name"]: arm["published"] for arm in self.listed["arms"] if arm.get("published")}
        self.unfair = [note for arm in self.listed["arms"] if arm["reference"] for note in self._other_labels(arm)]

    def _other_labels(self, arm: Record) -> list[str]:
        """Return a note for each seed in which an arm had other labelled images than its reference, unsaid."""
        if any(field.startswith(("labelled.", "source.", "scenes.")) for field in arm["differs"]):
            return []
        pair = (self.arms[name] for name in (arm["reference"], arm["name"]))
        first, own = ({r["seed"]: r["labelled"]["sha256"] for r in found if r.get("labelled")} for found in pair)
        return [
            f"`{arm['name']}`, seed {seed}: its labelled images are not those of `{arm['reference']}`."
            for seed in own
            if own[seed] != first.get(seed, own[seed])
        ]

    @functools.cached_property
    def claims(self) -> list[claims.Claim]:
        """The difference of each arm to its reference; they are one family."""
        return claims.claims(self.rows, self.arms, self.references)

    @property
    def adapts(self) -> bool:
        """Whether labels come from elsewhere than the data set itself, in any of its arms."""
        return any(arm["source"] for arm in self.listed["arms"])

    @property
    def single(self) -> bool:
        """Whether no arm has more than one seed, so that there is no interval over seeds."""
        return all(len(found) < 2 for found in self.arms.values())

    @property
    def shows_last(self) -> bool:
        """Whether the last step is reported: where the target's labels chose another, or a run's is not it."""
        known = any(record["scores"].get("last") for record in self.finished)
        return known and (self.adapts or any(stopped_rising(record) for record in self.finished))


def _read(folder: Path, table: Record) -> tuple[dict[str, list[Record]], list[str]]:
    """Return arm -> its finished records by seed, and a note for everything that is missing from them."""
    arms: dict[str, list[Record]] = {}
    notes, known = [], {"table.json"}
    for arm in table["arms"]:
        arms[arm["name"]] = []
        for cell in arm["cells"]:
            file = folder / f"{arm['name']}-seed{cell['seed']}.json"
            known.add(file.name)
            name = f"`{arm['name']}`, seed {cell['seed']}"
            if not file.exists():
                notes.append(f"{name}: not run yet.")
                continue
            record = records.read_json(file)
            if record is None:
                notes.append(f"{name}: its record is damaged.")
            elif records.present(record["arguments"]) != records.present(cell["arguments"]):
                notes.append(f"{name}: its record is of other arguments ({' '.join(record['arguments'])}).")
            elif cell.get("outdated", {}).get("date") == record["date"]:
                notes.append(f"{name}: {cell['outdated']['reason']}.")
            elif record["status"] != "finished":
                notes.append(f"{name}: **failed** with exit code {record['exit_code']}: {record['message'] or '-'}")
            else:
                arms[arm["name"]].append(record)
                if record.get("exit_code"):
                    notes.append(f"{name}: a command after the run **failed**: {record['message'] or '-'}")
    notes += [f"`{file.name}`: of no arm." for file in sorted(folder.glob("*.json")) if file.name not in known]
    return arms, notes


def _reported(record: Record) -> Record:
    """Return the scores that count: test's, or val's where there is no test split; a run without scores has none."""
    return record["scores"]["test"] or record["scores"]["val"] or {}


def _rare_iou(scores: Record) -> Record:
    """Return the mean IoU of the classes that have less than `RARE` of the labelled pixels of the scored split."""
    rows = [[int(count) for count in row.split()] for row in scores.get("confusion", ())]
    total = sum(map(sum, rows))
    shares = zip(scores.get("iou_per_class", {}).values(), rows, strict=True) if rows else ()
    rare = [iou for iou, row in shares if iou is not None and 0 < sum(row) < RARE * total]
    return {"rare_miou": sum(rare) / len(rare) if rare else None}


def _baselines(finished: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """Return baseline -> seed -> scores; runs of one seed have the same baselines, the first one's are taken."""
    found: dict[str, dict[int, Record]] = {}
    for record in finished:
        for name, scores in (record["scores"]["baselines"] or {}).items():
            found.setdefault(name, {}).setdefault(record["seed"], scores)
    return found
