"""What a closed bucket says: alarms become incidents, incidents observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.columns import PICO_PER_USD
from collector.findings import Observation, Subject
from collector.otlp.tables import I64
from processors.anomaly import saying
from processors.anomaly.buckets import Bucket
from processors.anomaly.config import AnomalyConfig
from processors.anomaly.incidents import Incident, Incidents, Sign, Traffic
from processors.anomaly.judging import ACCEPTED, BEGAN, ENDED, SHOWS, Judge, Verdict
from processors.anomaly.measures import COUNT, MEASURES, MONEY, PLACES, Scale
from processors.anomaly.rows import CHUNK, FACTOR, FIELDS, LEVEL, MEASURED, RUN_EXCESS, SCORE, SINCE
from processors.anomaly.series import Series
from processors.anomaly.views import Look, View, ordered, traffic
from processors.anomaly.watching import Watching

#: After series had to go, what seems new may only be back.
_FORGOTTEN_S = 30 * 86400
#: What begins so long after an open incident is something else.
_FOLLOWS_S = 86400
#: Measures that are shown by a call that failed or took long.
_SHOWN_BY_BAD = frozenset(PLACES[name] for name in ("latency", "time_to_first_token", "tokens_per_second", "error_rate", "refusal_rate"))  # fmt: skip
_VOLUMES = np.array([measure.scale is Scale.VOLUME for measure in MEASURES])
_PER_CALL, _GAINED = PLACES["cost_per_call"], PLACES["share_gained"]


class Closing:
    """Judges closed buckets, in their order, and remembers the incidents."""

    def __init__(self, config: AnomalyConfig, series: Series, watching: Watching) -> None:
        self._config, self._series, self._watching = config, series, watching
        self._incidents = Incidents(round(config.cool_down / config.bucket), round(_FOLLOWS_S / config.bucket))
        self._judge = Judge(config)
        self._first = 0  # bucket that was closed first; 0: none was
        self._evicted = 0  # bucket in which series had to go last
        self.evicted, self.without = 0, 0  # series that had to go, and that found no room, so far

    # State ----------------------------------------------------------------------------------------------------------

    @property
    def head(self) -> dict[str, Any]:
        """What is remembered beside the series."""
        return {
            "first": self._first,
            "evicted": self._evicted,
            "incidents": [one.written() for one in self._incidents.known],
        }

    def take(self, head: dict[str, Any]) -> None:
        """What `head` was."""
        self._first, self._evicted = head["first"], head["evicted"]
        self._incidents.known = [Incident(**one) for one in head["incidents"]]

    # A bucket -------------------------------------------------------------------------------------------------------

    def close(self, number: int, bucket: Bucket, recent: Sequence[Bucket]) -> list[Observation]:
        """What a bucket says. `recent`: the last ones, with this one."""
        self._first = self._first or number
        look, verdicts = self._look(bucket, number), []
        for part, rows, came in look.parts():
            verdicts.append(self._judge(rows, came, number))
            self._series.put(look.view.slots[part], rows)
        said = _Said(self, look.view, Verdict.joined(verdicts), number, recent)
        return [*said.incidents(), *said.singles(), *said.news()]

    def _look(self, bucket: Bucket, number: int) -> Look:
        """The series of a bucket: those with calls, those that miss theirs, and those of open incidents."""
        keys = ordered(list(bucket.keys))
        old = 0 < self._first <= number - self._config.warm_up / self._config.bucket
        sure = not self._evicted or number - self._evicted >= _FORGOTTEN_S / self._config.bucket
        slots, gone, without = self._watching.slots(keys, number, old and sure)
        if gone:
            self._evicted = number
        self.evicted += gone
        self.without += without
        open_ = [one.name for one in self._incidents.known if one.open]
        return Look(bucket, keys, slots, self._watching.silent(slots, open_, number), self._series, self._watching)


class _Said:
    """What is said of one bucket."""

    def __init__(self, closing: Closing, seen: View, verdict: Verdict, number: int, recent: Sequence[Bucket]) -> None:
        self._config, self._series, self._watching = closing._config, closing._series, closing._watching
        self._incidents = closing._incidents
        self._seen, self._verdict, self._number, self._recent = seen, verdict, number, recent
        self._at_ns = round((number + 1) * self._config.bucket * 1e9)
        self._late: tuple[Traffic, I64] | None = None

    @property
    def _traffic(self) -> tuple[Traffic, I64]:
        if self._late is None:
            self._late = traffic(self._recent, self._series, self._watching)
        return self._late

    # Incidents ------------------------------------------------------------------------------------------------------

    def incidents(self) -> Iterator[Observation]:
        """Incidents that begin, go on, and end."""
        told = self._incidents.tell(self._signs(), self._traffic[0], self._where, self._number) if self._begins else []
        hot = [sign for sign in told if sign.hot]
        if hot:  # told before their time, because they explain others: from now on they are alarms
            slots = np.unique([sign.slot for sign in hot])
            rows = self._series.copy(slots)
            for sign in hot:
                rows.whole[np.searchsorted(slots, sign.slot), MEASURED + sign.place * FIELDS + SINCE] = self._number
            self._series.put(slots, rows)
        signs = {(sign.name, sign.place): sign for sign in told}
        for incident in self._incidents.known:
            if incident.open:
                yield from self._go_on(incident, signs.get((incident.name, incident.place)))

    @property
    def _begins(self) -> bool:
        return bool((self._verdict.flags & BEGAN).any())

    def _signs(self) -> list[Sign]:
        """Alarms that begin in this bucket, and those of the series of late that nearly do."""
        slots = np.union1d(self._traffic[1], self._seen.slots)
        began = np.zeros((len(slots), COUNT), np.bool_)
        began[np.searchsorted(slots, self._seen.slots)] = (self._verdict.flags & BEGAN) > 0
        return [
            sign
            for first in range(0, len(slots), CHUNK)
            for sign in self._signs_of(slots[first : first + CHUNK], began[first : first + CHUNK])
        ]

    def _signs_of(self, slots: I64, began: NDArray[np.bool_]) -> list[Sign]:
        rows = self._series.copy(slots)
        fields = rows.words[:, MEASURED:].reshape(len(slots), COUNT, FIELDS)
        since = rows.whole[:, MEASURED:].reshape(len(slots), COUNT, FIELDS)[:, :, SINCE]
        half = self._config.threshold / np.maximum(rows.words[:, FACTOR], 1e-6)[:, None] / 2
        hot = (since == 0) & (fields[:, :, SCORE] >= half) & self._watching.watched(slots)
        hot[~np.isin(slots, self._seen.slots)[:, None] & _VOLUMES] = False  # a sum without calls says nothing
        scopes = self._watching.scopes_of(slots)
        return [
            Sign(
                self._series.names[int(slots[row])] or "", int(slots[row]), int(scopes[row]), place, float(fields[row, place, RUN_EXCESS]),
                float(fields[row, place, LEVEL]), not began[row, place],
            )
            for row, place in zip(*(axis.tolist() for axis in np.nonzero(hot | began)), strict=True)
        ]  # fmt: skip

    @property
    def _where(self) -> dict[str, tuple[int, int]]:
        """Scope and slot of the series of incidents."""
        slots = ((one.name, self._series.slots.get(one.name)) for one in self._incidents.known)
        return {name: (self._watching.scope(name), slot) for name, slot in slots if slot is not None}

    def _go_on(self, incident: Incident, begins: Sign | None) -> Iterator[Observation]:
        """What an open incident comes to in this bucket."""
        place = incident.place
        subject = self._watching.subject(incident.name)
        row = self._seen.row(self._series.slots.get(incident.name, -1))
        flag = int(self._verdict.flags[row, place]) if row >= 0 else 0 if begins else ENDED
        if subject is None or (flag & ENDED and begins is None):
            incident.open, incident.last = False, self._number
            if subject is not None:  # else the config watches it no more, and the book resolves it as quiet
                yield saying.over(subject, place, bool(flag & ACCEPTED), self._at_ns, incident.said)
            return
        incident.last = self._number
        if begins is None and not flag & SHOWS:
            return
        value, usual, excess = self._verdict.of(row, place)
        if begins is not None:
            excess = begins.size
            if np.isnan(value):
                value, usual = self._traffic[0].measured(begins)
        evidence = self._seen.evidence(row, place in _SHOWN_BY_BAD) if row >= 0 else ()
        said = saying.unusual(subject, place, value, usual, excess if MONEY[place] else np.nan, self._config.bucket, self._at_ns, evidence)  # fmt: skip
        incident.said = said.message
        yield said

    # Single calls, and what is new ----------------------------------------------------------------------------------

    def singles(self) -> Iterator[Observation]:
        """Single calls that cost many times what others of their series do."""
        scopes = [place for place, scope in enumerate(self._config.scopes.values()) if scope.single]
        rows = np.isin(self._seen.scopes, scopes)
        if not rows.any():
            return
        usd = self._seen.dearest(scopes) / PICO_PER_USD
        rows &= (usd >= self._config.single_factor * self._verdict.median) & (usd >= self._config.min_usd)
        for row in np.flatnonzero(rows).tolist():
            subject = self._subject(row)
            if subject is not None and not self._explained(row, _PER_CALL):
                yield saying.single(subject, round(usd[row] * PICO_PER_USD), float(self._verdict.median[row]), self._at_ns, self._seen.evidence(row, bad=False))  # fmt: skip

    def news(self) -> Iterator[Observation]:
        """Series that were never seen before, once they are worth a word."""
        for row in np.flatnonzero(self._verdict.new).tolist():
            subject = self._subject(row)
            if subject is None or self._explained(row, _GAINED):
                continue
            calls, usd = self._series.copy(self._seen.slots[[row]]).since_new(0)
            yield saying.new(subject, calls, usd, self._at_ns, self._seen.evidence(row, bad=False))
            # For a while, what follows from it belongs to it.
            name = self._series.names[int(self._seen.slots[row])] or ""
            self._incidents.known.append(
                Incident(
                    name, _GAINED, self._number, self._number + round(_FOLLOWS_S / self._config.bucket), open=False
                )
            )

    def _subject(self, row: int) -> Subject | None:
        return self._watching.subject(self._series.names[int(self._seen.slots[row])] or "")

    def _explained(self, row: int, place: int) -> bool:
        """Whether the calls of a series are those of an incident that is known."""
        name = self._series.names[int(self._seen.slots[row])] or ""
        sign = Sign(name, int(self._seen.slots[row]), int(self._seen.scopes[row]), PLACES["calls"], 0.0, 0.0)
        return self._incidents.covers(sign, place, self._traffic[0], self._where, self._number)
