"""The report: what was spent in a period, as one HTML file that needs nothing else. `spanledger report` writes it."""

from __future__ import annotations

from spanledger.report.figures import Figures, Query, ask
from spanledger.report.page import page

__all__ = ["Figures", "Query", "ask", "page"]
