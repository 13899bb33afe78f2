"""The channel that unit tests sign for."""

import hashlib

from cbmdhi.protocol.channel import Channel

CHANNEL = Channel("cbmdhi", hashlib.sha256(b"the genesis of the tests").digest())
REUSED_NAME = Channel("cbmdhi", hashlib.sha256(b"another genesis").digest())
"""The same name, another beginning."""
ELSEWHERE = Channel("another", CHANNEL.genesis_sha256)
