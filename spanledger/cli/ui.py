"""`spanledger ui`: the pages of a ledger, from a process of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, usage
from spanledger.cli.stopping import until_stopped

EPILOG = examples(
    ("a ClickHouse server that a collector writes to", "spanledger ui --dsn http://reader:password@clickhouse:8123/spanledger"),
    ("for other machines, with a token", "SPANLEDGER_ADMIN_TOKEN=… spanledger ui --dsn … --listen 0.0.0.0:8789"),
)  # fmt: skip
_MOST_AT_ONCE = 200


def ui(
    dsn: Annotated[
        str | None,
        typer.Option(
            envvar="SPANLEDGER_DSN",
            help="The store: http(s)://user:password@host:8123/database, or chdb://DIRECTORY while no collector has it. Default: the config's.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="Host and port.")] = "127.0.0.1:8789",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="SPANLEDGER_ADMIN_TOKEN",
            help="Token to sign in with. Default: service.admin.auth of the config; none: this machine alone may look.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Serve the pages of a ledger, until Ctrl-C.

    A running collector serves them itself, at /ui/ of its admin port. This is for a ClickHouse server, apart from the
    collectors that write to it. Reading only. Sign-in options are those of service.admin (docs/ui.md).
    """  # fmt: skip
    from config.types import parse_endpoint
    from spanledger.admin.control import new_key
    from spanledger.admin.guard import Guard
    from spanledger.cli.ledger import configured_dsn, load_config
    from spanledger.ui.app import alone
    from spanledger.ui.ask import AskError, open_store
    from spanledger.ui.site import Site
    from spanledger.web import WebServer

    loaded = load_config(config, set_)
    database = None
    if dsn is None:
        dsn, database = configured_dsn(loaded)
    try:
        host, _ = parse_endpoint(listen)
        store = open_store(dsn, database, create=False)
    except ValueError as error:
        usage(str(error))
    try:
        store.ask("SELECT 1 AS one FROM llm_calls LIMIT 1", {})
    except AskError as error:
        store.close()
        raise CommandError(f"{store.where} does not answer: {error}", "A running collector serves its embedded store's pages itself: /ui/ of its admin port.") from None  # fmt: skip
    admin = loaded.service.admin
    if token is None and admin.auth is not None:
        token = admin.auth.token.get_secret_value()
    site = Site(store, admin.ui, token)
    app = Guard(alone(site), host, admin.allowed_hosts, token, new_key())
    web = WebServer(app, listen, "ui.--listen", _MOST_AT_ONCE)
    wait = until_stopped()
    web.start()
    err.print(f"[bold green]http://{web.endpoint}/ui/[/]  from {store.where}")
    wait()
    web.stop()
    site.close()
