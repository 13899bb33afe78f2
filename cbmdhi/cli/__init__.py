"""The command line: `cbmdhi`."""
