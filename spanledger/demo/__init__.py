"""A lifelike LLM gateway, for trying Spanledger without one. Everything in it is invented, the personal data too.

Call by call: who calls (`world`), what happens (`calls`), how it is reported (`spans`).
By the month: a company (`company`) and its days (`rhythm`), its calls as columns (`traffic`), what goes wrong (`incidents`), how it is
reported (`reports`, by way of `wire`), and a past in a store (`history`).
"""
