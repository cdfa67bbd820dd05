"""From a file to a `LoadedConfig`: read, check every section and every reference, report all that is wrong at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config import document as yaml_document
from config.annotations import fill
from config.delivery import ExporterConfig
from config.document import Document, Place, dotted, scalar
from config.document import Path as Keys
from config.environment import EnvironmentProblem, expand
from config.errors import ConfigError, Kind, Severity
from config.explain import Problem, explain, suggest
from config.model import ComponentSpec, LoadedConfig, ServiceConfig
from config.registry import SECTIONS, BrokenComponent, Registry

ModelT = TypeVar("ModelT", bound=BaseModel)

SHIPPED = Path(__file__).with_name("default.yaml")
SIGNALS = ("traces", "logs", "metrics")
_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*(/[a-zA-Z][a-zA-Z0-9_]*)?")
_ELSEWHERE = {
    "extensions": "Spanledger has no extensions: health, metrics and queries are at service.admin",
    "connectors": "Spanledger has no connectors: the ledger is made in every traces pipeline",
}
#: What configs of the OpenTelemetry Collector have, and where its work is done here.
_NOT_COMPONENTS = {
    "batch": "leave it out: every pipeline batches, as service.batch says",
    "memory_limiter": "leave it out: memory is bounded by service.batch and the receiver's limits, and what waits lies on disk",
    "health_check": "leave it out: health is at service.admin",
    "prometheus": "leave it out: the collector's metrics are at service.admin, /metrics",
    "logging": "'debug' prints what passes",
}


def load(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    """Read a config file; without a path, the one that ships.

    env:       where `${env:NAME}` looks; the process's environment by default
    registry:  the component types there are; what is installed by default
    overrides: `path=value` texts, such as `service.batch.timeout=50ms`, that stand above the file

    Raises `ConfigError` with every finding, warnings included.
    """
    source = path or SHIPPED
    name = str(path) if path else "default.yaml (shipped)"
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name}: cannot read the config: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text (byte {error.start})") from None
    return loads(text, name, env, registry, overrides, source)


def loads(
    text: str,
    name: str,
    env: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    overrides: Sequence[str] = (),
    source: Path | None = None,
) -> LoadedConfig:
    """The same for text at hand; `name` is what findings call it."""
    registry = registry or Registry.installed()
    env = os.environ if env is None else env
    document = yaml_document.read(text, name, env)
    if not any(f.kind in (Kind.SYNTAX, Kind.LIMIT) for f in document.findings):
        for override in overrides:
            _override(document, override, env)
        components, service = _check(document, registry)
    findings = sorted(document.findings, key=lambda f: (f.line == 0, f.line, f.column))
    if any(f.severity is Severity.ERROR for f in findings):
        raise ConfigError(findings)
    assert service is not None
    return LoadedConfig(**components, service=service, source=source or Path(name), warnings=tuple(findings))


def load_part(path: Path, model: type[ModelT]) -> ModelT:
    """A file that holds what one model says, such as a policy. Raises ConfigError with every finding's line and column."""
    try:
        document = yaml_document.read(path.read_text(encoding="utf-8-sig"), str(path), {})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    found: ModelT | None = None
    if not document.findings:
        if isinstance(document.data, dict):
            found = _validate(document, (), model)
        else:
            document.find(Kind.SYNTAX, (), "expected a mapping of options")
    if found is None or document.findings:
        raise ConfigError(sorted(document.findings, key=lambda f: (f.line == 0, f.line, f.column)))
    return found


def _override(document: Document, text: str, env: Mapping[str, str]) -> None:
    """Put one `path=value` into the document."""
    path_text, equals, value_text = text.partition("=")
    place = Place(f"--set {path_text}")
    keys = tuple(path_text.strip().split("."))
    if not equals or not all(keys):
        document.find_at(place, Kind.SYNTAX, (), "expected path=value, such as service.batch.timeout=50ms")
        return
    document.from_env = {path: v for path, v in document.from_env.items() if path[: len(keys)] != keys}
    value = yaml_document.read(value_text, place.file, env) if value_text[:1] in "[{'\"" and value_text else None
    try:
        if value is not None:
            document.findings += value.findings
            document.put(keys, value.data)
        else:
            expanded, _ = expand(value_text, env)
            document.put(keys, scalar(expanded))
            document.from_env[keys] = expanded
    except EnvironmentProblem as problem:
        document.find_at(place, Kind.ENVIRONMENT, keys, str(problem))
    except (TypeError, KeyError, AttributeError, IndexError):
        document.find_at(place, Kind.WRONG_TYPE, keys, "there is no mapping to put this into")
    document.keys[keys] = document.values[keys] = place


def _check(document: Document, registry: Registry) -> tuple[dict[str, dict[str, ComponentSpec]], ServiceConfig | None]:
    data = document.data
    components: dict[str, dict[str, ComponentSpec]] = {section: {} for section in SECTIONS}
    if not isinstance(data, dict):
        got = "nothing" if data is None else "a list" if isinstance(data, list) else "a single value"
        message = f"expected a mapping with receivers, processors, exporters and service, got {got}"
        document.find(Kind.SYNTAX, (), message)
        return components, None
    for key in data:
        if key not in (*SECTIONS, "service"):
            hint = f"; {_ELSEWHERE[key]}" if key in _ELSEWHERE else suggest(key, [*SECTIONS, "service"], "known keys")
            document.find(Kind.UNKNOWN_KEY, (key,), f"unknown key{hint}", key=True)
    for section in SECTIONS:
        components[section] = _components(document, section, registry)
    if "service" not in data:
        document.find(
            Kind.MISSING_KEY, ("service",), "required key is missing: service.pipelines connects the components"
        )
        return components, None
    service = _validate(document, ("service",), ServiceConfig)
    _check_pipelines(document, components)
    return components, service


def _components(document: Document, section: str, registry: Registry) -> dict[str, ComponentSpec]:
    """Every component of a section that is right; the others become findings."""
    defined = document.data.get(section)
    if defined is None:
        return {}
    if not isinstance(defined, dict):
        document.find(Kind.WRONG_TYPE, (section,), f"expected a mapping of {SECTIONS[section]} ids to options")
        return {}
    installed = registry.section(section)
    specs: dict[str, ComponentSpec] = {}
    for id_ in defined:
        path, type_ = (section, id_), id_.partition("/")[0]
        if not _ID.fullmatch(id_):
            message = "expected an id `type` or `type/name` of letters, digits and _, a letter first"
            document.find(Kind.BAD_ID, path, message, key=True)
            continue
        if type_ not in installed:
            known = _NOT_COMPONENTS.get(type_)
            hint = f"; {known}" if known else suggest(type_, list(installed), "installed are")
            document.find(
                Kind.UNKNOWN_COMPONENT, path, f"no {SECTIONS[section]} of type '{type_}' is installed{hint}", key=True
            )
            continue
        try:
            cls = installed[type_].load(section)
        except BrokenComponent as broken:
            document.find(Kind.BROKEN_COMPONENT, path, str(broken), key=True)
            continue
        config = _validate(document, path, cls.Config)
        if config is not None:
            specs[id_] = ComponentSpec(id_, type_, cls, config)
        else:
            specs.setdefault(id_, ComponentSpec(id_, type_, cls, cls.Config.model_construct()))
    return specs


def _validate(document: Document, base: Keys, model: type[ModelT]) -> ModelT | None:
    """The model of what stands at `base`, or None and findings.

    Validation is strict and reads JSON: a number is not taken for text nor text for a number, while a path, an enum or
    a tuple may be written as YAML can. A value from the environment is text or not as its option wants it.
    """
    data = fill([model], document.get(base))
    problems = _attempt(document, base, model, data)
    if isinstance(problems, list):
        texts = [p for p in problems if p.kind is Kind.WRONG_TYPE and (*base, *p.path) in document.from_env]
        for problem in texts:
            document.put((*base, *problem.path), document.from_env[(*base, *problem.path)])
        if texts:
            problems = _attempt(document, base, model, fill([model], document.get(base)))
    if not isinstance(problems, list):
        return problems
    for problem in problems:
        document.find(problem.kind, (*base, *problem.path), problem.message, key=problem.key)
    return None


def _attempt(document: Document, base: Keys, model: type[ModelT], data: Any) -> ModelT | list[Problem]:
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return explain(error, model, data, document, base)


def _check_pipelines(document: Document, components: Mapping[str, Mapping[str, ComponentSpec]]) -> None:
    """References, order and completeness: all that stands between the sections."""
    service = document.data["service"]
    pipelines = service.get("pipelines") if isinstance(service, dict) else None
    if not isinstance(pipelines, dict):
        return
    used: set[tuple[str, str]] = set()
    for id_, pipeline in pipelines.items():
        path = ("service", "pipelines", id_)
        signal = id_.partition("/")[0]
        if signal not in SIGNALS or not _ID.fullmatch(id_):
            message = f"expected traces, logs or metrics, or one of them with /name{suggest(signal, SIGNALS)}"
            document.find(Kind.BAD_ID, path, message, key=True)
        if not isinstance(pipeline, dict):
            continue
        for section in SECTIONS:
            ids = pipeline.get(section)
            if isinstance(ids, list):
                used |= {(section, ref) for ref in ids if isinstance(ref, str)}
                _check_references(document, (*path, section), ids)
                _check_signal(document, components[section], (*path, section), ids, signal)
        if signal not in ("logs", "metrics"):
            _check_order(document, components, (*path, "processors"), pipeline.get("processors"))
    _check_twice(document, components["exporters"], pipelines)
    for section in SECTIONS:
        for id_ in components[section]:
            if (section, id_) not in used:
                message = f"defined, but no pipeline uses this {SECTIONS[section]}"
                document.find(Kind.UNUSED, (section, id_), message, key=True, warning=True)


def _check_references(document: Document, path: Keys, ids: list[Any]) -> None:
    section, kind = str(path[-1]), SECTIONS[str(path[-1])]
    defined = document.data.get(section)
    known = list(defined) if isinstance(defined, dict) else []
    if not ids and section != "processors":
        document.find(Kind.EMPTY_PIPELINE, path, f"a pipeline needs at least one {kind}")
    for i, id_ in enumerate(ids):
        if not isinstance(id_, str):
            continue
        if id_ in ids[:i]:
            document.find(Kind.BAD_VALUE, (*path, i), f"{kind} '{id_}' is named twice")
        if id_ not in known:
            other = next((s for s in SECTIONS if id_ in (document.data.get(s) or {})), None)
            hint = f"; '{id_}' is defined as {_a(SECTIONS[other])}" if other else suggest(id_, known, "defined are")
            message = f"no {kind} '{id_}' is defined in the {section} section{hint}"
            document.find(Kind.UNDEFINED, (*path, i), message)


def _check_signal(
    document: Document, components: Mapping[str, ComponentSpec], path: Keys, ids: list[Any], signal: str
) -> None:
    """Whether the pipeline's components take its signal. Receivers take any."""
    section = str(path[-1])
    if section == "receivers" or signal not in SIGNALS:
        return
    for i, id_ in enumerate(ids):
        spec = components.get(id_) if isinstance(id_, str) else None
        taken = [known for known in SIGNALS if spec is not None and known in getattr(spec.cls, "signals", SIGNALS[:1])]
        if spec is not None and signal not in taken:
            message = f"{SECTIONS[section]} '{id_}' takes {' and '.join(taken) or 'no signal'} only, and this is a pipeline of {signal}"
            document.find(Kind.SIGNAL, (*path, i), message)


def _check_order(
    document: Document, components: Mapping[str, Mapping[str, ComponentSpec]], path: Keys, ids: Any
) -> None:
    """Processors of reports stand before those of calls, between which reports become calls, and before redaction, which
    takes out what they read."""
    calls, redaction = "", ""
    ids = ids if isinstance(ids, list) else []
    for i, id_ in enumerate(ids):
        spec = components["processors"].get(id_) if isinstance(id_, str) else None
        if spec is None or id_ in ids[:i]:
            continue
        stage = spec.cls.stage.value
        if stage == "calls":
            calls = calls or spec.id
        elif stage == "redaction":
            redaction = redaction or ("" if getattr(spec.config, "idle", False) else spec.id)
        elif redaction:
            message = (
                f"'{id_}' reads values as they came, and '{redaction}' takes them out; put '{id_}' before '{redaction}'"
            )
            document.find(Kind.ORDER, (*path, i), message)
        elif calls:
            message = (
                f"'{id_}' works on reports, before they are merged into calls, and '{calls}' works on calls; "
                f"put '{id_}' before '{calls}'"
            )
            document.find(Kind.ORDER, (*path, i), message)


def _check_twice(document: Document, exporters: Mapping[str, ComponentSpec], pipelines: Mapping[str, Any]) -> None:
    """What one receiver took is not put twice in one place that keeps things, by two pipelines or by two exporters: each call
    would count twice."""
    givers: dict[tuple[str, str, Hashable], tuple[str, str]] = {}  # signal, receiver, place → first pipeline, exporter
    for id_, pipeline in pipelines.items():
        lists = pipeline if isinstance(pipeline, dict) else {}
        signal = id_.partition("/")[0]
        receivers, ids = ([r for r in _list(lists.get(s)) if isinstance(r, str)] for s in ("receivers", "exporters"))
        for i, exporter in enumerate(ids):
            spec = exporters.get(exporter)
            if spec is None or signal not in SIGNALS or not getattr(spec.cls, "keeps", True) or exporter in ids[:i]:
                continue
            place = _place(document, spec, signal)
            for receiver in receivers:
                first, other = givers.setdefault((signal, receiver, place), (id_, exporter))
                if (first, other) != (id_, exporter):
                    message = f"pipeline '{first}' gives exporter '{other}' already what receiver '{receiver}' takes"
                    if other == exporter:
                        message += ": it would be there twice; give the pipelines receivers or exporters of their own"
                    else:
                        message += f", and '{exporter}' puts it in the same place: it would be there twice; take one of the two out, or let '{exporter}' write elsewhere"
                    document.find(Kind.TWICE, ("service", "pipelines", id_, "exporters", i), message)
                    break


def _place(document: Document, spec: ComponentSpec, signal: str) -> Hashable:
    """Equal for exporters that put a signal in the same place. One whose options are wrong shares it with none."""
    wrong = any(finding.path.split(".")[:2] == ["exporters", spec.id] for finding in document.findings)
    told = spec.config.destination(signal) if isinstance(spec.config, ExporterConfig) and not wrong else None
    return spec.id if told is None else (spec.type, told)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


__all__ = ["SHIPPED", "dotted", "load", "load_part", "loads"]
