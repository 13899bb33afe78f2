"""What the ledger service knows, without any I/O: batches, receipts, and what a block means."""
