"""Write the tables of the shipped model's card from CSVs that `gendercls classify --labels` made.

    gendercls classify FAIRFACE/val --out fairface.csv --labels FAIRFACE/fairface_label_val.csv
    gendercls classify CELEBA/img_align_celeba --out celeba.csv --labels CELEBA
    python benchmarks/card.py --fairface fairface.csv FAIRFACE/fairface_label_val.csv --celeba celeba.csv

Everything between the two marks in export/MODEL_CARD.md is replaced.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gendercls.labels import read_labels
from gendercls.labels.match import LabelIndex
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.stats import wilson

CARD = Path(__file__).parent.parent / "export" / "MODEL_CARD.md"
BEGIN, END = "<!-- tables: begin (benchmarks/card.py) -->", "<!-- tables: end -->"
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
CHILDREN = AGES[:3]


@dataclass(frozen=True)
class Scored:
    """A photo with truth: what was answered, and the groups that it belongs to."""

    truth: str
    is_right: bool
    split: str = ""
    race: str = ""
    age: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fairface", nargs=2, type=Path, required=True, metavar=("CSV", "LABELS"))
    parser.add_argument("--celeba", type=Path, required=True, metavar="CSV")
    options = parser.parse_args()
    fairface = fairface_rows(*options.fairface)
    celeba = [Scored(row["truth"], row["correct"] == "1") for row in rows(options.celeba) if row["truth"]]
    text = "\n".join(tables(fairface, celeba))
    card = CARD.read_text(encoding="utf-8")
    filled = re.sub(f"(?s){re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", card)
    CARD.write_text(filled, encoding="utf-8")
    print(text)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fairface_rows(predictions: Path, label_file: Path) -> list[Scored]:
    labels = read_labels(label_file)
    index = LabelIndex(labels.keys)
    assert labels.split is not None
    scored = []
    for row in rows(predictions):
        match, number = index.find(f"val/{row['path']}")
        assert match == "path", row["path"]
        race, age = str(labels.columns["race"][number]), str(labels.columns["age"][number])
        scored.append(Scored(row["truth"], row["correct"] == "1", str(labels.split[number]), race, age))
    return scored


def tables(fairface: Sequence[Scored], celeba: Sequence[Scored]) -> Iterator[str]:
    model = read_model_file(shipped_model())
    test = [row for row in fairface if row.split == "test"]
    yield f"Model {model.spec.name}, SHA-256 `{model.sha256}`. Intervals are 95 % Wilson.\n"
    yield "| photos | right | accuracy | 95 % interval |"
    yield "| --- | ---: | ---: | ---: |"
    yield line("FairFace val, rows 1,251–2,500 (nothing was chosen on them)", test)
    yield line("… adults of these (20 and older)", [row for row in test if row.age not in CHILDREN])
    yield line("FairFace val, all 2,500 (the first half chose the epoch and the temperature)", fairface)
    yield line("CelebA photos 000001–008000, whole frames, never trained on", celeba)
    for title, key, names in (
        ("race (FairFace's words)", "race", sorted({row.race for row in fairface})),
        ("age (FairFace's words)", "age", AGES),
        ("label", "truth", ("female", "male")),
    ):
        yield f"\n| {title} | rows 1,251–2,500 | 95 % interval | all 2,500 | 95 % interval |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        for name in names:
            cells = [cell([row for row in group if getattr(row, key) == name]) for group in (test, fairface)]
            yield f"| {name.replace('_', ' ')} | {' | '.join(cells)} |"
    yield "\n| race and label | female | 95 % interval | male | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for race in sorted({row.race for row in fairface}):
        cells = [
            cell([row for row in fairface if (row.race, row.truth) == (race, label)]) for label in ("female", "male")
        ]
        yield f"| {race.replace('_', ' ')} (all 2,500) | {' | '.join(cells)} |"


def line(name: str, scored: Sequence[Scored]) -> str:
    rate = wilson(sum(row.is_right for row in scored), len(scored))
    interval = f"{100 * rate.low:.2f}–{100 * rate.high:.2f}"
    return f"| {name} | {rate.count:,} of {rate.total:,} | {100 * rate.value:.2f} % | {interval} |"


def cell(scored: Sequence[Scored]) -> str:
    rate = wilson(int(np.sum([row.is_right for row in scored])), len(scored))
    return f"{100 * rate.value:.1f} % of {rate.total:,} | {100 * rate.low:.1f}–{100 * rate.high:.1f}"


if __name__ == "__main__":
    main()
