package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// sampleSegment is a real segment file with every kind of frame in it, and
// what a second one holds.
func sampleSegments(tb testing.TB) (files map[string][]byte) {
	tb.Helper()
	s := &solo{rng: rand.New(rand.NewPCG(7, 7)), mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000)}
	st, err := s.open(s.mem)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := st.Create(trioID, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		tb.Fatal(err)
	}
	last, next := uint64(0), int64(0)
	for i := range 6 {
		r := Round{Entries: s.entries(s.rng, 2, last, 1, next), Hard: &HardState{Term: 1, Commit: last}}
		if i == 3 {
			r.Before = &Aux{Conf: []byte("conf")}
		}
		if err := l.Append(r); err != nil {
			tb.Fatal(err)
		}
		last, _ = l.Last()
		_, next = l.Offsets()
		st.Step(s.now)
	}
	l.takeWriter()
	defer l.giveWriter()
	p := l.last().p
	if err := errors.Join(l.enc.summary(kindCheckpoint, &p), l.flushEncoder(l.last(), l.last().p.end, false)); err != nil {
		tb.Fatal(err)
	}
	files = map[string][]byte{}
	for _, name := range []string{l.mu.segs[0].name, l.mu.segs[1].name} {
		files[name] = readAll(tb, s.mem, l.path(name))
	}
	return files
}

func readAll(tb testing.TB, fsys vfs.FS, name string) []byte {
	tb.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	size, _ := f.Size()
	b := make([]byte, size)
	if _, err := readFull(f, b, 0); err != nil {
		tb.Fatal(err)
	}
	return b
}

func FuzzHeader(f *testing.F) {
	for _, b := range sampleSegments(f) {
		f.Add(b[:min(len(b), 400)])
	}
	f.Add([]byte(headerMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := headerLength(append(bytes.Clone(b), make([]byte, headerFixed)...)); err == nil && n <= len(b) {
			b = bytes.Clone(b) // let what is behind the checksum be looked at
			binary.BigEndian.PutUint32(b[hdCRC:], headerCRC(b[:n]))
		}
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		again := h
		again.encode() // what is between the parts and the end need not be zero
		if again.length > h.length {
			t.Errorf("%d bytes became %d", h.length, again.length)
		}
		back, err := parseHeader(again.encode())
		back.length, back.crc = h.length, h.crc
		if err != nil || !reflect.DeepEqual(back, h) {
			t.Errorf("encoded and decoded again: %+v, was %+v, %v", back, h, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for name, b := range sampleSegments(f) {
		seq, _, _ := parseSegmentName(name)
		h, err := parseHeader(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[h.length:], h.salt, seq, h.length)
		at := h.length
		_, _ = verify(memFileOf(f, b), begin(&h), uint32(len(b)), func(fr *frame, _ []byte) error {
			f.Add(b[at:at+uint32(fr.size())], h.salt, seq, at)
			at += uint32(fr.size())
			return nil
		})
	}
	f.Fuzz(func(t *testing.T, b []byte, salt, seq, pos uint32) {
		s := sealing{salt, seq}
		if len(b) >= frameHeader { // let what is behind the checksums be looked at
			b = bytes.Clone(b)
			n := min(int(binary.BigEndian.Uint32(b[frLength:])), (len(b)-frameHeader)/8*8)
			payload := b[frameHeader : frameHeader+n]
			fr := frame{
				kind: Kind(b[3]), index: binary.BigEndian.Uint64(b[frIndex:]), term: binary.BigEndian.Uint64(b[frTerm:]),
				base: int64(binary.BigEndian.Uint64(b[frBase:])), previous: binary.BigEndian.Uint32(b[frPrevious:]),
			}
			clear(b[frameHeader+n : frameHeader+min(align8(n), len(b)-frameHeader)])
			fr.put(b, payload, s, pos)
		}
		fr, payload, err := parseFrame(b, s, pos)
		if err != nil {
			return
		}
		if fr.size() > len(b) || len(payload) != int(fr.length) {
			t.Fatalf("a frame of %d bytes with %d of payload in %d bytes", fr.size(), len(payload), len(b))
		}
		if _, err := parseHead(b[:frameHeader+min(len(payload), headBytes)], s, pos); err != nil {
			t.Errorf("the head alone: %v", err)
		}
		switch fr.kind {
		case kindState:
			_, _ = fr.hardState(payload)
		case kindCheckpoint, kindFooter:
			fuzzSummary(t, &fr, payload, s, pos)
		}
		p := progress{sealing: s, end: pos, chain: fr.previous, lastIndex: fr.index - 1, nextOffset: fr.base}
		_ = p.add(&fr, payload)
	})
}

func fuzzSummary(t *testing.T, fr *frame, payload []byte, s sealing, pos uint32) {
	p, _, err := parseSummary(fr, payload, s, pos)
	if err != nil {
		return
	}
	for i := range uint64(20) {
		p.find(func(b block) bool { return b.index > i })
		p.findTime(int64(i))
	}
	if len(p.runs) > 0 {
		p.term(p.runs[0].index)
	}
	_ = t
}

func FuzzSummary(f *testing.F) {
	h := segHeader{id: trioID, salt: 1, seq: 1}
	h.encode()
	p := begin(&h)
	p.blocks = []block{{160, 1, 0, 5}, {5000, 3, 10, -1}}
	p.runs = []termRun{{1, 1}, {3, 2}}
	f.Add(p.summary(kindFooter), true)
	f.Add(p.summary(kindCheckpoint), false)
	f.Fuzz(func(t *testing.T, b []byte, footer bool) {
		fr := frame{kind: kindCheckpoint, length: uint32(len(b))}
		if footer {
			fr.kind = kindFooter
		}
		head, _, _, _, err := parseSummaryHead(&fr, b, sealing{}, 160)
		_ = head
		if err != nil { // most inputs disagree with the frame: make it agree
			if len(b) < headBytes {
				return
			}
			q, _, _, _, _ := parseSummaryHead(&frame{}, b, sealing{}, 160)
			fr.previous, fr.index, fr.base = q.chain, q.lastIndex, q.nextOffset
		}
		fuzzSummary(t, &fr, b, sealing{}, 160)
	})
}

func FuzzRecoveryPoint(f *testing.F) {
	f.Add(encodePoint([]string{"clicks-0", "clicks-1"}, map[string]position{"clicks-0": {1, 4096}, "clicks-1": {9, 8}}))
	f.Add([]byte(pointMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 12 && string(b[:8]) == pointMagic { // let what is behind the checksum be looked at
			sealed := append(bytes.Clone(b[:len(b)-4]), 0, 0, 0, 0)
			crc := record.CRC(b[:len(b)-4])
			sealed[len(b)-4], sealed[len(b)-3], sealed[len(b)-2], sealed[len(b)-1] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
			b = sealed
		}
		_, _ = parsePoint(b)
	})
}

func FuzzSmallFiles(f *testing.F) {
	f.Add(owner{name: "fra-1", host: "a", pid: 7, since: time.Unix(1, 0)}.encode())
	f.Add([]byte("entrepot-storage 1\n"))
	f.Add(ScrubMark{Topic: "t", Partition: 2, Seq: 3, Began: 4, Bytes: 5, Done: 6}.encode())
	f.Add([]byte("file \"x\"\noffset 12\nreason \"y\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, ok := parseOwner(b); ok {
			if again, ok := parseOwner(o.encode()); !ok || again.String() != o.String() {
				t.Errorf("owner %q read back as %q, %v", o, again, ok)
			}
		}
		if v, err := parseFormat(b); err == nil && v < 1 {
			t.Errorf("format version %d", v)
		}
		if m := parseScrubMark(b); m != (ScrubMark{}) && parseScrubMark(m.encode()) != m {
			t.Errorf("scrub mark %+v", m)
		}
		if parseMarker("/d", b) == nil {
			t.Error("a marker is a marker whatever it says")
		}
		parseSegmentName(string(b))
	})
}

// FuzzRecovery writes a log's two segments with some bytes changed, cut or
// added, and opens it: whatever is in them, nothing crashes, what is handed out
// has passed its checks, and recovering again gives the same.
func FuzzRecovery(f *testing.F) {
	var names []string
	var bodies [][]byte
	for name, b := range sampleSegments(f) {
		names, bodies = append(names, name), append(bodies, b)
	}
	if names[0] > names[1] {
		names[0], names[1], bodies[0], bodies[1] = names[1], names[0], bodies[1], bodies[0]
	}
	f.Add(bodies[0], bodies[1], uint32(0), byte(0), uint32(0), byte(0))
	f.Add(bodies[0], bodies[1], uint32(300), byte(1), uint32(200), byte(0x80))
	f.Add(bodies[0][:500], bodies[1], uint32(100), byte(0), uint32(0), byte(3))
	f.Add([]byte{}, bodies[1], uint32(100), byte(0), uint32(0), byte(3))
	f.Fuzz(func(t *testing.T, one, two []byte, at1 uint32, mask1 byte, at2 uint32, mask2 byte) {
		mem := vfs.NewMem()
		dir := simDir + "/" + dirName(trioID)
		for _, d := range []string{simDir, dir} {
			if err := mem.Mkdir(d); err != nil {
				t.Fatal(err)
			}
		}
		for i, b := range [][]byte{one, two} {
			b = bytes.Clone(b)
			at, mask := []uint32{at1, at2}[i], []byte{mask1, mask2}[i]
			if len(b) > 0 {
				b[int(at)%len(b)] ^= mask
			}
			w, err := mem.Create(dir + "/" + names[i])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteGather([][]byte{b}, 0); err != nil {
				t.Fatal(err)
			}
		}
		first := fuzzOpen(t, mem.KillClone(), dir)
		if second := fuzzOpen(t, mem.KillClone(), dir); first != second {
			t.Errorf("recovered as %q, then as %q", first, second)
		}
		if _, err := Verify(mem, dir); err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		var out bytes.Buffer
		if err := Dump(mem, dir, &out, true); err != nil {
			t.Error(err)
		}
	})
}

// fuzzOpen reads all of a log and tells how far it came.
func fuzzOpen(t *testing.T, mem *vfs.Mem, dir string) string {
	r, err := inspect(mem, dir)
	if err != nil {
		return err.Error()
	}
	defer r.close()
	if len(r.chain) == 0 {
		return "nothing"
	}
	if err := writeFormat(noLogs{mem}, simDir); err != nil {
		t.Fatal(err)
	}
	s := &solo{rng: rand.New(rand.NewPCG(1, 1)), mem: mem, now: time.Unix(1, 0)}
	content, err := contentOf(mem, s, *r.id)
	text := ""
	if err != nil {
		text = err.Error()
	}
	for i := content.base + 1; ; i++ {
		e, ok := content.entries[i]
		if !ok {
			return text
		}
		text += string(rune('a' + record.CRC(e.Payload)%26))
	}
}

// noLogs lets a directory with logs in it be marked as new.
type noLogs struct{ *vfs.Mem }

func (noLogs) List(string) ([]string, error) { return nil, nil }

func memFileOf(tb testing.TB, b []byte) vfs.File {
	tb.Helper()
	mem := vfs.NewMem()
	w, err := mem.Create("/f")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.WriteGather([][]byte{b}, 0); err != nil {
		tb.Fatal(err)
	}
	return w
}

// FuzzManifest: what another node sends never crashes, and what is accepted is
// written again as the same bytes.
func FuzzManifest(f *testing.F) {
	m := Manifest{
		Log:   LogID{Topic: "clicks", ID: record.TopicID{7}, Partition: 3, Generation: 1},
		State: State{Index: 12, Term: 4, NextOffset: 90, Aux: Aux{Conf: []byte("conf"), Control: []byte("control")}},
		Files: []ManifestFile{
			{Seq: 1, Header: 1, First: 1, Bytes: 400, LastIndex: 9, LastTerm: 3, NextOffset: 80},
			{Seq: 4, Header: 2, First: 10, Bytes: 200, LastIndex: 12, LastTerm: 4, NextOffset: 90},
		},
	}
	f.Add(m.Append(nil))
	f.Add((&Manifest{Log: m.Log}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeManifest(b); err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%x decoded and encoded again is %x", b, m.Append(nil))
		}
		if id, rest, err := DecodeLogID(b); err == nil && !bytes.Equal(append(AppendLogID(nil, id), rest...), b) {
			t.Errorf("log %+v of %x", id, b)
		}
		if one, rest, err := DecodeManifestFile(b); err == nil && !bytes.Equal(append(one.Append(nil), rest...), b) {
			t.Errorf("file %+v of %x", one, b)
		}
		if name, below, ok := parseNote(string(b)); ok {
			if again, n, ok := parseNote(noteFile(name, below)); !ok || again != name || n != below {
				t.Errorf("note %q ~ %d of %q", name, below, b)
			}
		}
	})
}
