"""The channel and the own peer: what is asked of them, and what they are told beside commands."""
