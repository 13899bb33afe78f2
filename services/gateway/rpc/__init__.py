"""The gRPC side: one server, admission of each call, and a method for each route."""
