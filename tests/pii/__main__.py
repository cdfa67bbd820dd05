"""`python -m tests.pii`: recall and precision of every detector over the corpus, as a table. `-v` shows what went wrong."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from tests.pii.corpus import measure
from tests.pii.kit import DETECTORS
from tests.pii.negatives import negatives
from tests.pii.positives import positives


def main() -> None:
    console, scores = Console(), measure()
    table = Table(
        "detector", "cases", "recall", "named so", "false hits", "precision", title="Detectors over the corpus"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for detector in DETECTORS:
        score = scores[detector.id]
        table.add_row(
            detector.id,
            str(score.cases),
            f"{score.recall:.3f}",
            str(score.named),
            str(len(score.false)),
            f"{score.precision:.3f}",
        )
    found, cases = sum(score.covered for score in scores.values()), sum(score.cases for score in scores.values())
    named, wrong = sum(score.named for score in scores.values()), sum(len(score.false) for score in scores.values())
    table.add_section()
    table.add_row("all", str(cases), f"{found / cases:.3f}", str(named), str(wrong), f"{named / (named + wrong):.3f}")
    console.print(table)
    console.print(f"{len(positives())} texts with something to find, {len(negatives())} hard negatives")
    if "-v" in sys.argv:
        for id, score in scores.items():
            for text in score.missed:
                console.print(f"[red]missed[/] {id}: {text!r}", highlight=False, markup=True)
            for text in score.false:
                console.print(f"[yellow]false[/] {id}: ", end="")
                console.print(text, highlight=False, markup=False)


if __name__ == "__main__":
    main()
