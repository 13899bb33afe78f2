"""The documents: read, checked, and built as a site."""
