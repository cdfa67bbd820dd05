"""`spanledger warmup`: compile ahead what the first start would compile."""

from __future__ import annotations

import secrets
import time

from spanledger.cli.shell import err, examples, out

EPILOG = examples(("in an image's build, so that its first start is fast", "spanledger warmup"))


def warmup() -> None:
    """Compile the inner loops of decoding and redaction and keep them in the cache of this machine.

    `run` does it by itself at the first start, which then takes about a minute longer. The compiled code lies beside
    the installed package, or where NUMBA_CACHE_DIR says.
    """
    started = time.monotonic()
    with err.status("Compiling"):
        from collector.warmup import warm
        from processors.anomaly.warmup import warm as warm_anomaly
        from processors.redaction import RedactionConfig, warmup
        from processors.redaction.parts import Parts
        from processors.redaction.pseudonyms import Pseudonyms

        warm()
        warm_anomaly()
        warmup.warm(Parts(RedactionConfig(), Pseudonyms([secrets.token_bytes(32)])))
    out.print(f"Ready, after {time.monotonic() - started:.1f} s")
