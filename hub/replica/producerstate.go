package replica

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// producersVersion is the first byte of an encoded producer state. Version 1
// knew of no transactions.
const producersVersion = 2

// encode writes the state by producer ID. Numbers that may be -1 are stored
// one higher.
func (ps *producers) encode() []byte {
	b := binary.AppendUvarint([]byte{producersVersion}, uint64(len(ps.byID)))
	for _, id := range slices.Sorted(maps.Keys(ps.byID)) {
		p := ps.byID[id]
		b = binary.AppendUvarint(b, uint64(id))
		b = binary.AppendUvarint(b, uint64(p.epoch))
		b = binary.AppendUvarint(b, uint64(max(p.seen, 0)))
		b = binary.AppendUvarint(b, uint64(p.n))
		for _, s := range p.batches[:p.n] {
			b = binary.AppendUvarint(b, uint64(s.first))
			b = binary.AppendUvarint(b, uint64(s.last))
			b = binary.AppendUvarint(b, uint64(s.base))
		}
		b = binary.AppendUvarint(b, uint64(p.open+1))
		b = binary.AppendUvarint(b, uint64(p.marker+1))
		b = binary.AppendUvarint(b, uint64(int64(p.coordinator)+1))
	}
	return ps.aborted.encode(b)
}

// decodeProducers reads what encode wrote, of this version or the one before,
// and nothing else. No bytes are no producers.
func decodeProducers(b []byte) (ps producers, err error) {
	if len(b) == 0 {
		return ps, nil
	}
	version := b[0]
	if version < 1 || version > producersVersion {
		return ps, fmt.Errorf("producer state of version %d, this node reads versions 1 to %d", version, producersVersion)
	}
	d := decoder{b: b[1:]}
	n := d.count(4)
	ps.byID = make(map[int64]*producer, n)
	last := int64(-1)
	for range n {
		id := d.int64()
		if id <= last {
			d.fail("producers out of order")
		}
		last = id
		ps.byID[id] = d.producer(version)
	}
	if version > 1 {
		ps.aborted = d.aborted()
	}
	if err := d.end(); err != nil {
		return producers{}, fmt.Errorf("producer state: %w", err)
	}
	return ps, nil
}

func (d *decoder) producer(version byte) *producer {
	p := newProducer(int16(d.uvarint(math.MaxInt16)))
	p.seen, p.n = d.int64(), uint8(d.uvarint(keptBatches))
	for i := range p.n {
		p.batches[i] = sequences{first: d.int32(), last: d.int32(), base: d.int64()}
	}
	if version > 1 {
		p.open, p.marker = d.int64()-1, d.int64()-1
		p.coordinator = int32(int64(d.uvarint(math.MaxInt32+1)) - 1)
	}
	return p
}

// encode appends the list. A transaction's numbers are those of the list's
// order: its marker stands behind the one before.
func (l *abortedList) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(l.from))
	b = binary.AppendUvarint(b, uint64(len(l.txns)))
	at := int64(0)
	for _, t := range l.txns {
		b = binary.AppendUvarint(b, uint64(t.producer))
		b = binary.AppendUvarint(b, uint64(t.marker-at))
		b = binary.AppendUvarint(b, uint64(t.marker-t.first))
		at = t.marker
	}
	return b
}

func (d *decoder) aborted() (l abortedList) {
	l.from = d.int64()
	n := d.count(3)
	at := int64(0)
	for i := range n {
		t := abortedTxn{producer: d.int64()}
		gap, length := d.int64(), d.int64()
		if i > 0 && gap == 0 || length == 0 || gap > math.MaxInt64-at || length > at+gap {
			d.fail("aborted transactions out of order")
			return abortedList{}
		}
		at += gap
		t.marker, t.first = at, at-length
		l.txns = append(l.txns, t)
	}
	return l
}
