"""What operators run: the laptop network, backups, manifests, dashboards, and their commands."""
