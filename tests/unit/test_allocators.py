"""The allocators are tuned before the libraries that bring their own are loaded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
from collector.allocators import keep_freed_memory
import os, sys
assert not {"numpy", "pyarrow", "polars"} & sys.modules.keys(), "what comes first tunes nothing"
kept = keep_freed_memory()
import pyarrow
print(kept, pyarrow.default_memory_pool().backend_name, os.environ["_RJEM_MALLOC_CONF"])
"""


def said(**environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("ARROW_DEFAULT_MEMORY_POOL", "_RJEM_MALLOC_CONF")}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", PROGRAM], env={**kept, **environment}, capture_output=True, text=True, check=True)  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's is left as it is")
def test_freed_memory_is_kept() -> None:
    assert said() == ["True", "system", "dirty_decay_ms:5000,muzzy_decay_ms:5000"]


def test_what_is_set_outside_holds() -> None:
    assert said(_RJEM_MALLOC_CONF="dirty_decay_ms:0")[2] == "dirty_decay_ms:0"
