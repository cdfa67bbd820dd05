"""The plugin tutorial does what it says: its code runs, in its order, and prints what stands there."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.fixture
def tutorial(tmp_path, monkeypatch, capsys) -> dict[str, object]:
    """The names that the page's code leaves behind, run in an empty directory; what it printed is under `printed`."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "tutorial"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/plugins.md", "exec", dont_inherit=True), names)
    return {**names, "printed": capsys.readouterr().out}


def test_it_prints_what_it_says(tutorial):
    """The block under **prints** is the output."""
    expected = re.search(r"\*\*prints\*\*\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert expected is not None
    assert tutorial["printed"] == expected[1]


def test_the_processor_keeps_the_contract(tutorial):
    """Rollback forgets the last batch, load restores the last commit, a withdrawn row counts as nothing."""
    limit, calls, empty, memory = (tutorial[name] for name in ("limit", "calls", "empty", "memory"))
    better = tutorial["better"]
    limit.process(empty.with_(calls=calls({**better, "call_id": "b"})))
    assert limit.spent == {"search": 1_400_000_000_000}
    limit.rollback()
    assert limit.spent == {"search": 700_000_000_000}
    limit.process(empty.with_(calls=calls({**better, "withdrawn": True}), replaced=calls(better)))
    assert limit.spent == {"search": 0}
    limit.load(tutorial["State"])
    assert limit.spent == {"search": 700_000_000_000}
    assert memory


def test_the_exporter_tells_its_failures_apart(tutorial, tmp_path):
    """Permanent for what will never work, Retryable for what may."""
    from spanledger import Context, Payload, Permanent, Retryable

    def exporter(path: Path) -> object:
        config = tutorial["FileConfig"](path=path)
        return tutorial["File"](config, Context("acme_file", tmp_path, None))  # type: ignore[arg-type]

    with pytest.raises(Permanent):
        exporter(tmp_path).send(Payload(b"x"))
    with pytest.raises(Retryable):
        exporter(tmp_path / "no" / "file").send(Payload(b"x"))
    assert list(exporter(tmp_path / "f").encode(tutorial["empty"])) == []
    assert isinstance(tutorial["empty"].spans, pl.DataFrame)
