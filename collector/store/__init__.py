"""What is on disk: the inbox (requests) and the state (everything that moves with a pipeline's commit).

Two LMDB environments in the data directory, both sealed: `inbox/` takes requests and answers senders whatever the
pipelines do; in `state/` one transaction moves position, component state, outboxes and dead letters.
"""

from collector.store.crypto import NullSealer, Sealer, open_sealer
from collector.store.dead_letters import DeadLetters
from collector.store.inbox import Inbox
from collector.store.letters import DeadLetter
from collector.store.outbox import Outbox
from collector.store.queue import Entry, InboxQueue, joined
from collector.store.state import Reader, StateStore, Transaction

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Entry",
    "Inbox",
    "InboxQueue",
    "NullSealer",
    "Outbox",
    "Reader",
    "Sealer",
    "StateStore",
    "Transaction",
    "joined",
    "open_sealer",
]
