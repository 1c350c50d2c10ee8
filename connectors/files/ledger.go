package files

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// ledgerFolder holds an entry for each plan, in a folder for each job. It is
// the destination's own record of what was loaded: an entry is published after
// the plan's files, so a plan with an entry is done, whatever has become of
// its files since.
const ledgerFolder = "_ledger"

// ledgerFormat is the version of entries and manifests.
const ledgerFormat = 1

// entry says what one plan has brought.
type entry struct {
	Format    int    `json:"format"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	// High is the latest event time of the partition's records up to To. One
	// that was in the future when it was loaded counts as that moment.
	High    instant `json:"high"`
	Folders []tally `json:"folders"`
}

// tally is a plan's part in one folder.
type tally struct {
	Folder string  `json:"folder"`
	Begin  instant `json:"begin"` // of the folder's period; null without a time
	End    instant `json:"end"`
	First  int64   `json:"first"` // offset of the first and the last record
	Last   int64   `json:"last"`
	counts
	File *fileInfo `json:"file,omitempty"`
}

// counts are numbers of records. Records is the sum of the others.
type counts struct {
	Records     int64 `json:"records"` // in the topic
	Rows        int64 `json:"rows"`    // in files
	Skipped     int64 `json:"skipped"` // tombstones that the config leaves out
	Filtered    int64 `json:"filtered"`
	DeadLetters int64 `json:"dead_letters"`
}

func (c *counts) add(d counts) {
	c.Records += d.Records
	c.Rows += d.Rows
	c.Skipped += d.Skipped
	c.Filtered += d.Filtered
	c.DeadLetters += d.DeadLetters
}

// fileInfo is a file as it was published.
type fileInfo struct {
	Name   string `json:"name"` // without its folder
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

func (e entry) tp() record.TopicPartition {
	return record.TopicPartition{Topic: e.Topic, Partition: e.Partition}
}

func (e entry) name() string { return rangeName(e.tp(), e.From, e.To) + ".json" }

// rangeName is what the files of a range of offsets are called.
func rangeName(tp record.TopicPartition, from, to int64) string {
	return fmt.Sprintf("%s+%d+%d+%d", tp.Topic, tp.Partition, from, to)
}

// offsets is what a file's name says: which records are in it.
type offsets struct {
	record.TopicPartition
	from, to int64
	ext      string
}

// parseName reads TOPIC+PARTITION+FROM+TO.EXT.
func parseName(name string) (o offsets, ok bool) {
	words := strings.Split(name, "+")
	if len(words) != 4 || words[0] == "" {
		return o, false
	}
	to, ext, ok := strings.Cut(words[3], ".")
	if !ok {
		return o, false
	}
	p, err1 := strconv.ParseInt(words[1], 10, 32)
	from, err2 := strconv.ParseInt(words[2], 10, 64)
	end, err3 := strconv.ParseInt(to, 10, 64)
	o = offsets{record.TopicPartition{Topic: words[0], Partition: int32(p)}, from, end, ext}
	return o, err1 == nil && err2 == nil && err3 == nil && from <= end && name == o.name()
}

func (o offsets) name() string { return rangeName(o.TopicPartition, o.from, o.to) + "." + o.ext }

// within reports whether the range is part of a larger one.
func (o offsets) within(p offsets) bool {
	return o.TopicPartition == p.TopicPartition && o.from >= p.from && o.to <= p.to && (o.from != p.from || o.to != p.to)
}

// encodeLedger gives the text of an entry or a manifest.
func encodeLedger(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// decodeLedger is strict, as a count that is read wrong is worse than none.
func decodeLedger(name string, text []byte, into any) error {
	var head struct{ Format int }
	if err := json.Unmarshal(text, &head); err != nil {
		return connectors.Fatalf("%s cannot be read: %w", name, err)
	}
	if head.Format != ledgerFormat {
		return connectors.Fatalf("%s is of format %d, this program knows %d", name, head.Format, ledgerFormat)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return connectors.Fatalf("%s cannot be read: %w", name, err)
	}
	return nil
}

// decodeEntry reads an entry and holds it to its name.
func decodeEntry(name string, text []byte) (entry, error) {
	var e entry
	if err := decodeLedger(name, text, &e); err != nil {
		return e, err
	}
	for _, t := range e.Folders {
		if t.Records != t.Rows+t.Skipped+t.Filtered+t.DeadLetters || t.Rows < 0 || (t.File == nil) != (t.Rows == 0) || t.File != nil && t.File.Rows != t.Rows {
			return e, connectors.Fatalf("%s does not add up for folder %s", name, t.Folder)
		}
	}
	if e.name() != path.Base(name) {
		return e, connectors.Fatalf("%s is the entry of %s", name, e.name())
	}
	return e, nil
}

// tallies collects what a plan brings, by folder.
type tallies struct {
	clock clock
	now   instant
	high  instant
	all   map[string]*tally
}

func newTallies(c clock, now, high instant) *tallies {
	return &tallies{clock: c, now: now, high: high, all: map[string]*tally{}}
}

// add counts a record in its folder.
func (t *tallies) add(folder string, m *connectors.Message, one counts) {
	at, timed := t.clock.at(m)
	f := t.all[folder]
	if f == nil {
		f = &tally{Folder: folder, Begin: noTime, End: noTime, First: m.Offset, Last: m.Offset}
		if timed {
			f.Begin, f.End = t.clock.period(at)
		}
		t.all[folder] = f
	}
	f.First, f.Last = min(f.First, m.Offset), max(f.Last, m.Offset)
	f.counts.add(one)
	if timed {
		t.high = max(t.high, min(at, t.now))
	}
}

// entry is the plan's.
func (t *tallies) entry(p connectors.Plan) entry {
	e := entry{
		Format: ledgerFormat, Topic: p.Partition.Topic, Partition: p.Partition.Partition,
		From: p.From, To: p.To, High: t.high, Folders: []tally{},
	}
	for _, f := range t.all {
		e.Folders = append(e.Folders, *f)
	}
	slices.SortFunc(e.Folders, func(a, b tally) int { return strings.Compare(a.Folder, b.Folder) })
	return e
}
