"""Sizes of messages on the wire."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What a message may have, unless a service says otherwise."""

_SLACK_BYTES = 64 * 1024


def message_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options for both sides: the limit, and slack so that what is just over it gets our own error."""
    most = max_message_bytes + _SLACK_BYTES
    return [("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most)]
