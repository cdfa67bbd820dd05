"""Any request at all can be redacted, and what is not text, nor an attribute, is what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.batch import Position, RequestBatch
from collector.signals import Signal
from tests.otlp_strategies import requests_of
from tests.redaction_kit import batch, message, redaction

RULES = [
    {"match": "user.id", "action": "keep"}, {"match": "a*", "action": "drop"}, {"match": "*model", "action": {"mask": {"keep_last": 2}}},
    {"match": "", "action": "pseudonymise"},
]  # fmt: skip
PROCESSORS = [
    redaction(audit=True),
    redaction(profile="strict", audit=True),
    redaction(attributes=RULES, detectors={"pii": "drop_attribute"}, max_value_size=1024),
    redaction(content="keep", identities="keep", detectors={"secret": "drop_value"}),
]
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def same(before: Message, after: Message) -> None:
    """Both have the same messages, and the same numbers and ids in them; texts and attributes may differ."""
    assert type(before) is type(after)
    for field in before.DESCRIPTOR.fields:
        one, two = getattr(before, field.name), getattr(after, field.name)
        if field.type == field.TYPE_MESSAGE:
            if field.message_type.name in (KeyValue.DESCRIPTOR.name, AnyValue.DESCRIPTOR.name):
                continue
            if field.is_repeated:
                assert len(one) == len(two), field.name
                for a, b in zip(one, two, strict=True):
                    same(a, b)
            else:
                assert before.HasField(field.name) == after.HasField(field.name), field.name
                same(one, two)
        elif field.type == field.TYPE_BYTES:
            # What has another length is no id, and goes where it is no text either.
            assert one == two or len(one) != (16 if field.name == "trace_id" else 8), field.name
        elif field.type != field.TYPE_STRING:
            assert repr(one) == repr(two), field.name


@pytest.mark.parametrize("signal", list(Signal))
@QUIET
@given(data=st.data(), number=st.integers(0, len(PROCESSORS) - 1))
def test_any_request(signal: Signal, data: Any, number: int) -> None:
    processor = PROCESSORS[number]
    request = data.draw(requests_of[signal])
    body = request.SerializeToString()
    if signal is Signal.TRACES:
        made = processor.process(batch(body))
        out = made.otlp.data.tobytes()
        assert len(made.spans) == len(made.otlp)
    else:
        sent = RequestBatch(signal, np.frombuffer(body, np.uint8), 1, Position(1, 1), 0)
        out = processor.process_requests(sent).data.tobytes()
    after = message(out, signal)
    same(request, after)
    assert processor.parts.engine.redact(signal, np.frombuffer(out, np.uint8)).data.tobytes() == out or number == 1
