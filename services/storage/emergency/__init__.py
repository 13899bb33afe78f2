"""Records opened while no majority of members answers (docs/adr/0029-emergency-without-a-majority.md)."""
