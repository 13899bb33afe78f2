"""The rules of storage: no I/O, no gRPC."""
