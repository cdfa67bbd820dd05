"""What each gateway and SDK calls things: one YAML file a dialect, and the code that gives them effect.

To add a dialect, add a file (`model.py` says what may stand in it); nothing else knows the dialects' names.
"""

from collector.dialects.normalise import describe, normalise

__all__ = ["describe", "normalise"]
