"""What wallet, services and verifiers share, without I/O.

Addresses and signatures, commands and groups, HPKE labels, content identifiers, the envelope of a
record, and the proof that a verdict stands in a block. `docs/conventions.md` and `docs/envelope.md`
say the same in prose; `tests/vectors/` lets another language check itself.
"""
