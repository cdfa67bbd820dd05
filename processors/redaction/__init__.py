"""Redaction: what is looked for (`detectors/`), where (`content.yaml`), and what happens to it (`config.py`).

Open `processor.py` first, then `engine.py`.
"""

from processors.redaction.config import RedactionConfig
from processors.redaction.processor import Redaction

__all__ = ["Redaction", "RedactionConfig"]
