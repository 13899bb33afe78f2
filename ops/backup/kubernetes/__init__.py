"""Backup and restore of a member on Kubernetes, as they run inside its pods (docs/adr/0018)."""
