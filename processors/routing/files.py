"""The policy in force: from the config, or from a file that is read again when it changes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from config.errors import ConfigError
from config.loader import load_part
from processors.routing.config import PolicyConfig, RoutingConfig
from processors.routing.policy import Policy

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0


class PolicySource:
    """Gives the policy. A file that is gone or became wrong leaves the policy in force that was read before, and an error in the log.

    Raises `ConfigError` where the file is wrong at the start.
    """

    def __init__(self, config: RoutingConfig, check_every: float = CHECK_EVERY_S) -> None:
        self._path = config.policy_file
        self._check_every = check_every
        self._stamp = self._now()
        self._policy = Policy(load_part(self._path, PolicyConfig) if self._path is not None else config)
        self._next_check = time.monotonic() + check_every

    def policy(self) -> Policy:
        """The same object as long as nothing changed."""
        path, now = self._path, time.monotonic()
        if path is None or now < self._next_check:
            return self._policy
        self._next_check = now + self._check_every
        stamp = self._now()
        if stamp != self._stamp:
            self._stamp = stamp
            self._read(path)
        return self._policy

    def _read(self, path: Path) -> None:
        try:
            self._policy = Policy(load_part(path, PolicyConfig))
            logger.info(
                "%s changed: %d routes, %d rules", path, len(self._policy.config.routes), len(self._policy.config.rules)
            )
        except ConfigError as error:
            logger.error("%s; the policy read before stays in force", error)

    def _now(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat() if self._path is not None else None
        except OSError:
            status = None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status is not None else (0, 0, 0)
