"""Budgets: what teams, users and models may use, when to say that it is nearly used up, and what to answer a gateway that asks."""

from processors.budgets.config import Budget, BudgetsConfig
from processors.budgets.processor import Budgets

__all__ = ["Budget", "Budgets", "BudgetsConfig"]
