"""One row per call: the reports of each call, merged. See docs/architecture.md, "The ledger"."""

from collector.ledger.ledger import Ledger

__all__ = ["Ledger"]
