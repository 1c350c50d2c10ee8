package record

// Offsets is what a partition knows of itself at one moment. All are offsets
// of records; Start is the first one readable, the others are exclusive ends.
type Offsets struct {
	Start         int64 // log start offset
	LastStable    int64 // LSO: below it no transaction is undecided
	HighWatermark int64 // HW: below it everything is committed
	LeaderEpoch   int32
}

// Chunk is a run of whole batches read from a partition, in offset order. The
// first batch may begin before the offset asked for. Batches alias memory that
// is never changed afterwards; callers must not change it either.
type Chunk struct {
	Batches []Batch
	Offsets Offsets // as of the moment of the read
}

// Bytes is the sum of the batches' sizes.
func (c Chunk) Bytes() (n int) {
	for _, b := range c.Batches {
		n += len(b)
	}
	return n
}

// Appended is the outcome of an append, known once it is committed.
type Appended struct {
	BaseOffset    int64
	LogAppendTime int64 // milliseconds; -1 with CreateTime
	LogStart      int64
	Duplicate     bool // the batch had been appended before; BaseOffset is that of the first time
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-320): the largest epoch at or
// below the one asked for, and the offset at which the next one began. Epoch
// and End are -1 when the epoch is not known.
type EpochEnd struct {
	Epoch int32
	End   int64
}

// TimeOffset answers ListOffsets by time: the first record at or after the
// time asked for. Offset is -1 when there is none.
type TimeOffset struct {
	Offset      int64
	Timestamp   int64 // milliseconds
	LeaderEpoch int32
}
