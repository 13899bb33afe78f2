"""Records: written with a signed commitment, read by whom the patient lets, decrypted here alone."""

from __future__ import annotations

from cbmdhi.client.connection import Connection
from cbmdhi.client.new_record import NewRecord, Prepared
from cbmdhi.client.reading import Place, Reading, Reads
from cbmdhi.client.writing import Writes, Written

__all__ = ["NewRecord", "Place", "Prepared", "Reading", "Records", "Written"]


class Records(Writes, Reads):
    """Put, read, list."""

    def __init__(self, connection: Connection) -> None:
        Writes.__init__(self, connection)
        Reads.__init__(self, connection)
