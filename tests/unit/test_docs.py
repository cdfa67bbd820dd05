"""The documentation that is made from the code is up to date, links lead somewhere, and what is public is described."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import spanledger
from collector import columns
from collector.component import Exporter, Processor
from config.loader import loads

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", generate.PAGES)
def test_made_pages_are_up_to_date(page):
    """`make docs` would change nothing."""
    assert (ROOT / page).read_text(encoding="utf-8") == generate.PAGES[page](), f"{page} is stale: run `make docs`"


PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES)
def test_pages_say_something(page):
    """A page has a heading and text below it: a link to an emptied file leads somewhere too."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.search(r"^# \w", text, re.MULTILINE), page
    assert len(text) > 1000, page


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_whole_rows(page):
    """A row is one line: what a default or a description breaks is no table any more."""
    fenced = False
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fenced ^= line.startswith("```")
        assert fenced or not line.startswith("|") or line.endswith("|"), f"{page}:{number}: {line[:60]}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Files that a page links to exist, and the headings that it points at too."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}, (
                f"{page}: {target}"
            )


def test_every_public_name_is_in_the_plugin_page():
    """What authors of processors and exporters may import is shown to them."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name in spanledger.__all__:
        if name != "__version__":
            assert name in text, name


def test_every_column_says_what_it_means():
    """And no two columns have one name, in the pipeline or in a table."""
    for group in (columns.CALL_COLUMNS, columns.REPORT_COLUMNS, columns.SPAN_COLUMNS):
        assert all(len(column.doc) > 5 for column in group)
        assert len({column.name for column in group}) == len(group)
        stored = [column.clickhouse for column in group if column.clickhouse]
        assert len(set(stored)) == len(stored)


def test_every_component_of_ours_says_what_it_does():
    """The first line of its docstring is what `spanledger components` and the README show."""
    for _, _, name, cls in generate._components():
        first = (cls.__doc__ or "").partition("\n")[0]
        assert len(first) > 15, name
        assert issubclass(cls, (Processor, Exporter)) or name == "otlp"


def _configs():
    """Every config or part of one on a page: page and line, text."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.finditer(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            told = yaml.safe_load(block[1])
            if isinstance(told, dict) and told.keys() <= {"receivers", "processors", "exporters", "service"}:
                yield pytest.param(block[1], told, id=f"{page}:{text.count(chr(10), 0, block.start()) + 2}")


@pytest.mark.parametrize(("text", "told"), list(_configs()))
def test_configs_in_the_documentation_load(text, told, tmp_path, monkeypatch):
    """As they are written; parts of a config with as little around them as makes a whole one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owners.csv").write_text("key,team\nk1,search\n")
    (tmp_path / "policy.yaml").write_text("routes: [{match: {team: search}, route_to: gpt-4o}]\n")
    first = ["attribution", "guardrails", "redaction", "pricing"]  # read values as they came; then the order is free
    processors = sorted(told.get("processors") or {}, key=lambda name: first.index(name) if name in first else 9)
    receivers, exporters = list(told.get("receivers") or ["otlp"]), list(told.get("exporters") or ["nop"])
    text += "".join(f"\n{kind}: {{{name}: }}\n" for kind, name in (("receivers", "otlp"), ("exporters", "nop")) if kind not in told)  # fmt: skip
    pipelines = (
        f"  pipelines: {{traces: {{receivers: {receivers}, processors: {processors}, exporters: {exporters}}}}}\n"
    )
    if "service" not in told:
        text += f"\nservice:\n{pipelines}"
    elif "pipelines" not in told["service"]:
        text = text.replace("service:\n", f"service:\n{pipelines}", 1)
    names = re.findall(r"\$\{env:([A-Z_]+)", text)
    env = {name: "json://localhost/x" if name.endswith("URL") else "long-enough-to-sign-with" for name in names}
    assert loads(text, "page", env).service.pipelines
