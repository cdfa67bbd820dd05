"""One bad config per mistake: each gives its exact message, at its line and column.

The expected text of `configs/bad/NAME.yaml` is `configs/bad/NAME.txt`. Files in `bad/` are read with components of the
tests' own, those in `bad/components/` with the ones that are installed.
"""

from __future__ import annotations

from contextlib import chdir
from functools import cache
from pathlib import Path

import pytest

from config import ConfigError, Registry, load
from config.errors import Kind, Severity
from tests import golden
from tests.config_kit import REGISTRY

BAD = Path(__file__).parents[1] / "configs" / "bad"
FILES = sorted(BAD.rglob("*.yaml"))
SECRET = "hunter2-sesame"  # must never be in a message
ENV = {"SECRET": SECRET, "CLICKHOUSE_PASSWORD": SECRET}


@cache
def findings(path: Path) -> ConfigError:
    """What loading the file gives, read once for all tests."""
    registry = Registry.installed() if path.parent.name == "components" else REGISTRY
    with chdir(path.parent), pytest.raises(ConfigError) as caught:
        load(Path(path.name), ENV, registry)
    return caught.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BAD).with_suffix("")))
def test_a_mistake_gives_its_message(path):
    """Every finding of the file, in the order of its lines, with what to do; no secret in any of them."""
    error = findings(path)
    assert SECRET not in str(error)
    assert any(finding.severity is Severity.ERROR for finding in error.findings)
    assert all(finding.line and finding.column for finding in error.findings)
    golden.check(path.with_suffix(".txt"), f"{error}\n")


def test_every_kind_of_finding_has_a_bad_config():
    """`Kind` is a closed set, and each member occurs."""
    found = {finding.kind for path in FILES for finding in findings(path).findings}
    assert found == set(Kind)


def test_no_expected_text_without_its_config():
    """A config that is renamed takes its text along."""
    assert {path.with_suffix("") for path in BAD.rglob("*.txt")} == {path.with_suffix("") for path in FILES}
