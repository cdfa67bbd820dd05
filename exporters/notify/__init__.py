"""Telling people and other systems of findings: chat, e-mail, pagers, webhooks."""

from exporters.notify.config import NotifyConfig
from exporters.notify.exporter import Notify

__all__ = ["Notify", "NotifyConfig"]
