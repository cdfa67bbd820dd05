"""Names and addresses, which have no shape: Microsoft's Presidio finds them with a model of the language.

An optional extra (`pip install 'spanledger[presidio]'`) and a model (`python -m spacy download en_core_web_lg`), both loaded
when a detector that needs them is switched on. It costs milliseconds per text, not nanoseconds per byte, and it is a guess.
Nothing is downloaded: a model that is not there is an error at the start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from collector.errors import SpanledgerError

logger = logging.getLogger(__name__)

LANGUAGE, MODEL = "en", "en_core_web_lg"
#: Of Presidio's scores, from 0 to 1: what is less sure is not taken.
SCORE = 0.5
BATCH = 64  # texts


class Name(NamedTuple):
    """Characters start : end of a text, and which of Presidio's entities they are."""

    start: int
    end: int
    entity: str


class Names:
    """Finds entities in texts. `analyzer` is a BatchAnalyzerEngine, made here where there is none."""

    def __init__(self, entities: Sequence[str], analyzer: Any = None) -> None:
        self._entities = list(entities)
        self._analyzer = analyzer or _analyzer()

    def find(self, texts: Sequence[str]) -> list[list[Name] | None]:
        """The names in each text, None for a text that could not be judged. Each text once: give distinct ones."""
        try:
            return self._find(texts)
        except Exception:  # one text is enough; which one is found out by asking for each alone
            return [self._alone(text) for text in texts]

    def _alone(self, text: str) -> list[Name] | None:
        try:
            return self._find([text])[0]
        except Exception as error:
            logger.warning("redaction: a text could not be searched for names (%s)", type(error).__name__)
            return None

    def _find(self, texts: Sequence[str]) -> list[list[Name] | None]:
        results = self._analyzer.analyze_iterator(
            texts, language=LANGUAGE, batch_size=BATCH, entities=self._entities, score_threshold=SCORE
        )
        return [[Name(one.start, one.end, one.entity_type) for one in found] for found in results]


def _analyzer() -> Any:
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise SpanledgerError(
            f"names and addresses are found by Presidio, which is not installed ({error.name}): "
            "pip install 'spanledger[presidio]', or switch the detectors person and address off"
        ) from None
    if not spacy.util.is_package(MODEL):
        raise SpanledgerError(
            f"names and addresses need spaCy's model {MODEL}, which is not installed: python -m spacy download {MODEL}"
        )
    engine = SpacyNlpEngine(models=[{"lang_code": LANGUAGE, "model_name": MODEL}])
    return BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=engine, supported_languages=[LANGUAGE]))
