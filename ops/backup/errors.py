"""What can go wrong with a backup."""

from ops.devnet.errors import DevnetError


class BackupError(DevnetError):
    """The backup or restore cannot be done. Nothing was changed. `remedy` says what to do."""
