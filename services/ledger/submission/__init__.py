"""Commands into transactions: batched, endorsed, ordered, and their fate told."""
