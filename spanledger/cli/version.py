"""`spanledger version`."""

from __future__ import annotations

from spanledger.cli.shell import examples, out

EPILOG = examples(("for a bug report", "spanledger version"))


def version() -> None:
    """Print the versions of Spanledger and of what its figures depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    out.print(f"spanledger {of('spanledger')}")
    for name, what in (("genai-prices", "price book"), ("chdb", "embedded ClickHouse"), ("numba", ""), ("polars", "")):
        try:
            found = of(name)
        except PackageNotFoundError:
            found = "not installed"
        out.print(f"  {name} {found}{f' ({what})' if what else ''}", style="dim")
    out.print(f"  Python {platform.python_version()} on {platform.system()} {platform.machine()}", style="dim")
