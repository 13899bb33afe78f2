"""Seals content into envelopes, keeps them in the member's Kubo node and in others', releases data keys.

domain/     rules without I/O: decisions, keys, batches, placement
sealing/    Seal: contents become envelopes
store/      batches in Kubo, their leases, replicas at other members, garbage collection
release/    Open and ReleaseKey: decisions are proven, data keys sealed to their readers
emergency/  records opened without a majority
channel/    what is asked of the own ledger service and the own peer
vault       writer keys at rest
"""
