package batch

// CountBatch counts the messages and entries of lists of a serialized Batch.
func CountBatch(raw []byte) int { return batchShape.count(raw, MaxBatchBytes) }
