"""The gateway: what a member offers to engines, applications and people.

It authenticates, validates, batches and routes. It decides nothing about anybody's data (the channel
does), and keeps nothing but the delegations of the sessions that are open.
"""
