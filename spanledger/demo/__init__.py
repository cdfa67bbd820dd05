"""A lifelike LLM gateway, for trying Spanledger without one: who calls (`world`), what happens (`calls`), how it is
reported (`spans`). Everything in it is invented, the personal data too."""
