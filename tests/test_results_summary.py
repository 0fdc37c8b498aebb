"""The verdicts on the hand-written page of results are those of the generated one.

`python tests/test_results_summary.py` writes them anew after `semhub results`.
"""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
TABLES, SUMMARY, LEGS = DOCS / "results.md", DOCS / "results" / "index.md", DOCS / "results" / "verdicts.md"
SECTION = re.compile(r"(?<=<!-- verdicts -->\n).*?(?=<!-- end of verdicts -->)", re.DOTALL)
NAMES = {"gemma-3-270m": "Gemma 3 270M", "smollm2-135m": "SmolLM2-135M"}
SHORT = {"gemma-3-270m": "Gemma", "smollm2-135m": "SmolLM2"}
HEAD = """# All verdicts

One row for every leg on every model. Click a heading to sort. Type in the field to filter, for example `opposite`
or `smollm2 code`. [All tables](../results.md) has nulls, baselines, item counts, checks that hold, and notes.

| experiment | leg | model | verdict | effect [95 %] | layer | checks that fail |
|---|---|---|---|---|---|---|
"""


def legs(text):
    """Every row of the generated tables, with its model and experiment."""
    model = experiment = None
    for line in text.splitlines():
        if found := re.match(r"## (\S+)$", line):
            model = found[1]
        elif found := re.match(r"### `([\w.]+)`", line):
            experiment = found[1]
        elif experiment and line.startswith("| ") and not line.startswith("| leg |"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            leg, verdict, effect, _null, layer, _baseline, _items, _holds, fails = cells
            yield {
                "experiment": experiment,
                "leg": leg,
                "model": model,
                "verdict": verdict,
                "effect": effect,
                "layer": layer,
                "fails": fails,
            }


def counted(rows):
    """What a cell of the summary says of some legs."""
    if not rows:
        return "not measured"
    supported = [row for row in rows if row["verdict"] == "supported"]
    opposite = sum(row["verdict"] == "opposite" for row in rows)
    weak = sum(bool(row["fails"]) for row in supported)
    told = [f"**{len(supported)} of {len(rows)}**"]
    told += [f"{opposite} opposite"] if opposite else []
    told += [f"{weak} with a failed check"] if weak else []
    return ", ".join(told)


def summary(rows):
    experiments = list(dict.fromkeys(row["experiment"] for row in rows))
    lines = [f"| experiment | {' | '.join(NAMES.values())} |", "|---" * (1 + len(NAMES)) + "|"]
    for name in experiments:
        cells = [counted([r for r in rows if r["experiment"] == name and r["model"] == model]) for model in NAMES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n" + "\n".join(lines) + "\n\n"


def listed(rows):
    cells = (
        list((row | {"experiment": f"`{row['experiment']}`", "model": SHORT[row["model"]]}).values()) for row in rows
    )
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def test_the_summary_counts_the_legs_of_the_generated_tables():
    text = TABLES.read_text(encoding="utf-8")
    rows = list(legs(text))
    for model, found in re.findall(r"^## (\S+)\n\n(.*? not supported)", text, re.MULTILINE):
        mine = [row["verdict"] for row in rows if row["model"] == model]
        counts = [mine.count(verdict) for verdict in ("supported", "opposite", "not supported")]
        assert [len(mine), *counts] == [int(number) for number in re.findall(r"\d+", found)]
    assert SECTION.search(SUMMARY.read_text(encoding="utf-8"))[0] == summary(rows)
    assert LEGS.read_text(encoding="utf-8") == listed(rows)


def main():
    rows = list(legs(TABLES.read_text(encoding="utf-8")))
    SUMMARY.write_text(SECTION.sub(lambda _: summary(rows), SUMMARY.read_text(encoding="utf-8")), encoding="utf-8")
    LEGS.write_text(listed(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
