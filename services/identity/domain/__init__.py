"""The rules of identity, without I/O: certificate requests, registrations, reviews, challenges, tokens."""
