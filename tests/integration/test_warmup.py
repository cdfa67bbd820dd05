"""What a start compiles ahead is all there is: no first batch waits for a compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# In a process of its own: other tests have compiled for other types of arrays what a collector never calls with them.
_FIRST_BATCHES = """
import sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from collector.warmup import warm
from config.loader import load
from spanledger.service import Service
from tests.bill import folders, requests
from tests.spans_kit import request, span

def signatures():
    found = [value for module in list(sys.modules.values()) for value in list(vars(module).values())]
    return {(k.py_func.__module__, k.py_func.__name__): len(k.signatures) for k in found if isinstance(k, CPUDispatcher)}

service = Service(load(Path(sys.argv[1])))
(pipeline,) = service.parts.pipelines
warm()
pipeline.load()
before, position = signatures(), 0
only_texts_change = request(spans=[span("plain", attributes={"note": "write to warm@example.com"})])
for bodies in ([only_texts_change], [body for folder in folders() for body in requests(folder)]):
    for body in bodies:
        service.parts.inbox.append((pipeline.id,), body, 1, lambda error: None)
    assert service.parts.inbox.flush(30)
    while entries := pipeline.queue.read(position, 2**20):
        pipeline._handle(entries)
        position = entries[-1].seq
new = [name for name, count in signatures().items() if count > before.get(name, 0)]
assert pipeline.position == position and not list(service.parts.letters.list())
print(*new, position)
"""

_CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors: {{attribution: , pricing: , redaction: , privacy: }}
exporters:
  clickhouse: {{dsn: "http://127.0.0.1:1/spanledger"}}
  otlphttp: {{endpoint: "http://127.0.0.1:1", max_request_size: 64KiB}}
service:
  data_dir: {data}
  admin: {{endpoint: "127.0.0.1:0"}}
  pipelines:
    traces: {{receivers: [otlp], processors: [attribution, pricing, redaction, privacy], exporters: [clickhouse, otlphttp]}}
"""


def test_first_batches_compile_nothing(tmp_path: Path) -> None:
    config = tmp_path / "spanledger.yaml"
    config.write_text(_CONFIG.format(data=tmp_path / "data"))
    command = [sys.executable, "-c", _FIRST_BATCHES, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[:-1] == []
    assert int(done.stdout.split()[-1]) > 10
