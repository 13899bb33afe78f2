"""Blocks in IPFS: pinned under leases, replicated to other members, collected when nothing holds them."""
