"""What redaction is made of, for one config: how its parts are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processors.redaction.columns import Columns
from processors.redaction.config import RedactionConfig
from processors.redaction.decisions import Decisions
from processors.redaction.engine import Engine
from processors.redaction.ours import Ours
from processors.redaction.persons import Persons
from processors.redaction.policy import Policy
from processors.redaction.pseudonyms import Pseudonyms
from processors.redaction.search import Search
from processors.redaction.texts import TextSearch


class Parts:
    """What one thread redacts with."""

    def __init__(
        self, config: RedactionConfig, pseudonyms: Pseudonyms, sources: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.policy = Policy(config, sources)
        ours = Ours(self.policy, pseudonyms)
        persons = Persons(pseudonyms, self.policy.places.nobody, self.policy.places.members)
        texts = TextSearch(self.policy, ours, config.max_depth)
        named = persons if "user" in self.policy.pseudonymised else None
        search = Search(self.policy, texts, named, config.max_value_size)
        decisions = Decisions(self.policy, pseudonyms, ours)
        self.engine = Engine(self.policy, search, decisions, persons, ours)
        self.columns = Columns(self.policy, texts, decisions, persons)
