package pgoutput

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func everyMessage() []Message {
	rows := Tuple{{Kind: Null}, {Kind: Unchanged}, {Kind: Text, Data: []byte("text")}, {Kind: Binary, Data: []byte{0, 1}}}
	p := Prepared{LSN: 1, EndLSN: 2, Time: 3, Xid: 4, GID: "gid"}
	return []Message{
		&Begin{CommitLSN: 1, Time: -2, Xid: 3}, &Commit{CommitLSN: 1, EndLSN: 2, Time: 3}, &Origin{CommitLSN: 7, Name: "there"},
		&Relation{ID: 1, Namespace: "public", Name: "t", Identity: IdentityFull, Columns: []Column{{true, "id", 23, -1}, {false, "n", 1700, 786438}}},
		&Relation{ID: 1, Namespace: "pg_catalog", Name: "t", Identity: IdentityNothing, Columns: []Column{}},
		&Type{ID: 1, Namespace: "public", Name: "mood"}, &Insert{Relation: 1, New: rows}, &Insert{Relation: 1, New: Tuple{}},
		&Update{Relation: 1, New: rows}, &Update{Relation: 1, Old: rows, New: rows}, &Update{Relation: 1, Old: rows, OldWhole: true, New: rows},
		&Delete{Relation: 1, Old: rows}, &Delete{Relation: 1, Old: rows, OldWhole: true},
		&Truncate{Cascade: true, RestartIdentity: true, Relations: []uint32{1, 2}},
		&LogicalMessage{Transactional: true, LSN: 9, Prefix: "p", Content: []byte("c")},
		&StreamStart{Xid: 1, First: true}, &StreamStop{}, &StreamCommit{Xid: 1, CommitLSN: 2, EndLSN: 3, Time: 4},
		&StreamAbort{Xid: 1, Subxid: 2, AbortLSN: 3, Time: 4}, &BeginPrepare{p}, &Prepare{p}, &CommitPrepared{p}, &StreamPrepare{p},
		&RollbackPrepared{PrepareEndLSN: 1, EndLSN: 2, PrepareTime: 3, Time: 4, Xid: 5, GID: "gid"},
	}
}

// inBlock reports whether a message can stand inside a stream block.
func inBlock(m Message) bool {
	switch m.(type) {
	case *Relation, *Type, *Insert, *Update, *Delete, *Truncate, *LogicalMessage, *StreamStop:
		return true
	}
	return false
}

// TestEveryMessage: each message is read back as it was, and no part of one is
// taken for a whole.
func TestEveryMessage(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		for _, m := range everyMessage() {
			if _, stop := m.(*StreamStop); streaming != inBlock(m) && (streaming || stop) {
				continue
			}
			b := encode(m, streaming, true)
			d := Decoder{Parallel: true, inStream: streaming}
			got, err := d.Decode(b)
			if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", m) {
				t.Fatalf("%T: got %+v, %v, want %+v", m, got, err, m)
			}
			for n := range b {
				d := Decoder{Parallel: true, inStream: streaming}
				if _, err := d.Decode(b[:n]); err == nil {
					t.Errorf("%T is read from %d of its %d bytes", m, n, len(b))
				}
			}
			d = Decoder{Parallel: true, inStream: streaming}
			if _, err := d.Decode(append(slices.Clone(b), 0)); err == nil {
				t.Errorf("%T: a byte too many is not told", m)
			}
		}
	}
}

func TestPlacesAndTimes(t *testing.T) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"} {
		if l, err := ParseLSN(s); err != nil || l.String() != s {
			t.Errorf("%s is read as %s, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "16", "16/", "/1", "1/2/3", "123456789/0", "x/1"} {
		if l, err := ParseLSN(s); err == nil {
			t.Errorf("%q is read as %s", s, l)
		}
	}
	if got, want := Time(1_000_001).Millis(), time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC).UnixMilli(); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

// FuzzDecode: bytes from outside never panic, and what is read has those bytes
// and no others.
func FuzzDecode(f *testing.F) {
	for _, m := range everyMessage() {
		f.Add(encode(m, false, false), false, false)
		f.Add(encode(m, true, true), true, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, streaming, parallel bool) {
		d := Decoder{Parallel: parallel, inStream: streaming}
		m, err := d.Decode(b)
		if err != nil {
			return
		}
		again := encode(m, streaming, parallel)
		if !bytes.Equal(again, b) && !loose(m, b) {
			t.Fatalf("%x is read as %+v, which is %x", b, m, again)
		}
	})
}

// loose reports whether a message has flags of which not every bit is read.
func loose(m Message, _ []byte) bool {
	switch m := m.(type) {
	case *Relation, *Truncate, *LogicalMessage:
		return true
	case *StreamStart:
		return !m.First
	}
	return false
}

// FuzzAssemble: no order of messages panics.
func FuzzAssemble(f *testing.F) {
	f.Add([]byte{0, 3, 6, 1}, uint64(1))
	f.Fuzz(func(_ *testing.T, order []byte, seed uint64) {
		all := everyMessage()
		r := rand.New(rand.NewPCG(seed, 1))
		a := Assembler{Spool: memory{}}
		for _, i := range order {
			b := slices.Clone(encode(all[int(i)%len(all)], a.Decoder.InStream(), false))
			if r.IntN(4) == 0 {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
			if pushAll(&a, b, func(*Change) error { return nil }) != nil {
				return
			}
		}
	})
}

// TestRandomStreams plays transactions with parts that are rolled back, cut
// into blocks at random and mixed with others, and compares with the same
// transactions sent whole after their commits: changes and numbers are equal.
func TestRandomStreams(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		var whole, blocks strings.Builder
		play := func(a *Assembler, out *strings.Builder, m Message) {
			t.Helper()
			err := pushAll(a, encode(m, a.Decoder.InStream(), false), func(c *Change) error {
				out.WriteString(shown(c) + "\n")
				return nil
			})
			if err != nil {
				t.Fatalf("seed %d: %T: %v", seed, m, err)
			}
		}
		a, b := &Assembler{}, &Assembler{Spool: memory{}}
		describe := func(xid uint32) *Relation {
			return &Relation{Xid: xid, ID: 1, Namespace: "public", Name: "t", Columns: []Column{{true, "id", 23, -1}}, Identity: IdentityDefault}
		}
		type part struct{ sub, value uint32 }
		count := 2 + r.IntN(4)
		txs := make([][]part, count)
		gone := map[uint32]bool{} // parts that are rolled back
		for i := range txs {
			top := uint32(100 * (i + 1))
			for n := range 1 + r.IntN(8) {
				sub := top + uint32(r.IntN(3))
				txs[i] = append(txs[i], part{sub, uint32(n)})
			}
			for s := top + 1; s < top+3; s++ {
				gone[s] = r.IntN(2) == 0
			}
		}
		sent := make([]int, count)
		for open := count; open > 0; {
			i := r.IntN(count)
			top := uint32(100 * (i + 1))
			switch {
			case sent[i] < 0: // committed
			case sent[i] == len(txs[i]):
				lsn := LSN(1000*open + 1)
				for s := top + 1; s < top+3; s++ {
					if gone[s] && slices.ContainsFunc(txs[i], func(p part) bool { return p.sub == s }) {
						play(b, &blocks, &StreamAbort{Xid: top, Subxid: s})
					}
				}
				play(b, &blocks, &StreamCommit{Xid: top, CommitLSN: lsn, EndLSN: lsn + 1})
				play(a, &whole, &Begin{Xid: top, CommitLSN: lsn})
				play(a, &whole, describe(0))
				for _, p := range txs[i] {
					if !gone[p.sub] {
						play(a, &whole, &Insert{Relation: 1, New: Tuple{{Text, fmt.Append(nil, p.value)}}})
					}
				}
				play(a, &whole, &Commit{CommitLSN: lsn, EndLSN: lsn + 1})
				sent[i], open = -1, open-1
			default:
				play(b, &blocks, &StreamStart{Xid: top, First: sent[i] == 0})
				play(b, &blocks, describe(top))
				for range 1 + r.IntN(3) {
					if sent[i] < len(txs[i]) {
						p := txs[i][sent[i]]
						play(b, &blocks, &Insert{Xid: p.sub, Relation: 1, New: Tuple{{Text, fmt.Append(nil, p.value)}}})
						sent[i]++
					}
				}
				play(b, &blocks, &StreamStop{})
			}
		}
		if whole.String() != blocks.String() {
			t.Fatalf("seed %d: in blocks\n%s\nwhole\n%s", seed, blocks.String(), whole.String())
		}
		if a.Open() || b.Open() {
			t.Fatalf("seed %d: something is left open", seed)
		}
	}
}
