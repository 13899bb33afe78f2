"""The gateway's rules, without I/O: what is well-formed, what fits, what is kept and what is not."""
