"""Networks of tokens."""
