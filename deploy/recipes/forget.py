"""Runs forget.sql over an embedded store whose collector is stopped: `python forget.py DIRECTORY NAME`. See docs/operations.md."""

from __future__ import annotations

import sys
from pathlib import Path

from chdb.session import Session


def forget(directory: str, name: str, database: str = "spanledger") -> None:
    """Run every statement. Raises `RuntimeError` with what ClickHouse says."""
    if not (Path(directory) / "store").is_dir():
        raise SystemExit(f"{directory}: there is no embedded ClickHouse")
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    session = Session(directory)
    try:
        session.query(f"USE {database}")
        session.query(f"SET param_user = '{escaped}'")
        for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                session.query(statement)
    finally:
        session.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    forget(*sys.argv[1:])
