"""What every pipeline is made of: receivers, stores, decoding, dialects, the ledger, and the loop that connects them."""

from collector.kept_code import keep_somewhere

keep_somewhere()
