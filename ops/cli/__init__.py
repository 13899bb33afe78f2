"""The operators' commands of `cbmdhi`."""
