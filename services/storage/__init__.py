"""Seals content into envelopes, keeps them in the member's Kubo node and in others', releases data keys.

domain/     rules without I/O: decisions, keys, batches, placement
sealing     Seal and Discard            opening     Open and ReleaseKey
blobs       evidence, FetchBlock        replicas    the other members, with signed receipts
vault       writer keys at rest         kubo        the member's Kubo node
ledger      the member's own ledger     roots       which member holds what here
"""
