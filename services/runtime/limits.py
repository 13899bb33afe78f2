"""Sizes of messages on the wire."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The limit of a message, unless a service sets another."""

_SLACK_BYTES = 64 * 1024


def message_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options for both sides: the limit plus slack, so that just over it our own error is given."""
    most = max_message_bytes + _SLACK_BYTES
    return [("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most)]
