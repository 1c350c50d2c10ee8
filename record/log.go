package record

import "io"

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
// is not changed while they are in use; callers must not change it either.
type Chunk struct {
	Batches []Batch
	Offsets Offsets // as of the moment of the read
	// Open reads a batch, by its place in Batches, of which only the header is there
	// (its length is less than its Size): all of it, once. An error is damage, or a
	// disk that fails; the last bytes come with the check of all. It returns nil for a
	// batch that is there, and is nil when all are. Only until Release is called.
	Open func(batch int) io.Reader
	// Release gives the batches' memory back, to be used for other reads: call
	// it at most once, when nobody will look at them any more. Whoever does
	// not call it leaves the memory to the collector. Nil: it is not lent.
	Release func()
}

// Bytes is the sum of the batches' sizes.
func (c Chunk) Bytes() (n int) {
	for _, b := range c.Batches {
		n += b.Size()
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

// Transaction is what a partition knows of a producer's transactions, what is
// not committed to the log yet included.
type Transaction struct {
	Epoch int16 // of the producer; -1 when the partition does not know it
	First int64 // first offset of the open transaction; -1 when none is open
	// Guard is another one after each marker. An append that names it is
	// refused when a transaction of the producer has ended here since.
	Guard int64
}

// Open reports whether a transaction is open.
func (t Transaction) Open() bool { return t.First >= 0 }

// AbortedTransaction is a transaction whose records a reader with isolation
// read_committed leaves out: those of the producer from offset First on, up to
// the marker.
type AbortedTransaction struct {
	ProducerID int64
	First      int64
}
