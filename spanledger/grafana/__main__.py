"""`python -m spanledger.grafana [FOLDER]`: write the dashboards, to deploy/grafana/dashboards where no folder is named."""

from __future__ import annotations

import sys
from pathlib import Path

from spanledger.grafana import render

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"


def main(folder: Path) -> None:
    """Write all of them, and take away those that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    made = render()
    for path in folder.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
