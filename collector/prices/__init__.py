"""Prices: which rates apply to a model on a day, and what a usage costs at them.

`Book.find` answers for one distinct (provider, models, tier, time); `Rates` turns the answer into integers, so that a
million rows are priced by one matrix product without a float.
"""

from collector.prices.book import Book, Found, Wanted
from collector.prices.overrides import Override, PriceList, Tiered
from collector.prices.rates import USAGE, Rates

__all__ = ["USAGE", "Book", "Found", "Override", "PriceList", "Rates", "Tiered", "Wanted"]
