"""The channel and the own peer: what is asked of them, and what is submitted besides commands."""
