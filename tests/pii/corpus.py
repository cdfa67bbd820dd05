"""How much of the corpus is found, and how much else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.pii.kit import DETECTORS, scan
from tests.pii.negatives import negatives
from tests.pii.positives import Case, positives


@dataclass
class Score:
    """Of one detector. `covered`: every byte of the value is in hits, whatever they are named. `named`: by this detector."""

    cases: int = 0
    covered: int = 0
    named: int = 0
    missed: list[str] = field(default_factory=list)  # the texts
    false: list[str] = field(default_factory=list)  # hits where nothing is to be found, and the texts

    @property
    def recall(self) -> float:
        return self.covered / self.cases if self.cases else 1.0

    @property
    def precision(self) -> float:
        hits = self.named + len(self.false)
        return self.named / hits if hits else 1.0


def measure(cases: Sequence[Case] | None = None, harmless: Sequence[str] | None = None) -> dict[str, Score]:
    """Scores by detector, over the corpus or what is given.

    What a detector that is off by default finds beside its own cases is not held against it: private addresses are among
    the harmless texts on purpose.
    """
    cases = positives() if cases is None else cases
    harmless = negatives() if harmless is None else harmless
    usual = {detector.id for detector in DETECTORS if detector.default}
    scores: dict[str, Score] = defaultdict(Score)
    for case, hits in zip(cases, scan([case.text.encode() for case in cases]), strict=True):
        score, text, value = scores[case.detector], case.text.encode(), case.value.encode()
        start = text.index(value)
        end = start + len(value)
        inside = [hit for hit in hits if hit.start < end and hit.end > start]
        covered = set(range(start, end)) <= {at for hit in inside for at in range(hit.start, hit.end)}
        score.cases += 1
        score.covered += covered
        score.named += covered and any(hit.detector == case.detector for hit in inside)
        if not covered:
            score.missed.append(case.text)
        for hit in hits:
            if hit not in inside and hit.detector in usual:
                scores[hit.detector].false.append(f"{text[hit.start : hit.end].decode()!r} in {case.text!r}")
    for plain, hits in zip(harmless, scan([text.encode() for text in harmless]), strict=True):
        for hit in hits:
            if hit.detector in usual:
                scores[hit.detector].false.append(f"{plain.encode()[hit.start : hit.end].decode()!r} in {plain!r}")
    return scores
