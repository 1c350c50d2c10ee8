package replica

import "hash/maphash"

// keyBytes is what one key costs in an offsetMap, at most.
const keyBytes = 64

// offsetMap knows the last offset of each key in a part of a log. It keeps 128
// bits of each key's hash, seeded anew for each map: that two keys of one log
// agree in them is less likely than a disk that invents a record.
type offsetMap struct {
	most    int // keys that fit
	seeds   [2]maphash.Seed
	offsets map[[2]uint64]int64
}

// newOffsetMap makes a map that takes about as many bytes.
func newOffsetMap(bytes int64) *offsetMap {
	return &offsetMap{
		most: max(int(bytes/keyBytes), 1), seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		offsets: map[[2]uint64]int64{},
	}
}

func (m *offsetMap) hash(key []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(m.seeds[0], key), maphash.Bytes(m.seeds[1], key)}
}

// put notes that key has a record at offset, which is above all before.
func (m *offsetMap) put(key []byte, offset int64) { m.offsets[m.hash(key)] = offset }

// last is the last offset of a key that was put; -1 when there is none.
func (m *offsetMap) last(key []byte) int64 {
	if o, ok := m.offsets[m.hash(key)]; ok {
		return o
	}
	return -1
}

// room reports whether n more keys fit. The first ones always do, however many
// there are in one batch: else nothing would ever get on.
func (m *offsetMap) room(n int) bool { return len(m.offsets) == 0 || len(m.offsets)+n <= m.most }
