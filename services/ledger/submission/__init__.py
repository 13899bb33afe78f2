"""Commands into transactions: batched, endorsed, ordered, and their outcome told."""
