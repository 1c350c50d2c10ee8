package files

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// The names of a closed folder. Each version of the manifest is a file that is
// never overwritten, and putting it there is the decision: whoever comes second
// takes what is there. manifestName is a copy of the newest one.
const (
	manifestName = "_MANIFEST.json"
	successName  = "_SUCCESS"
)

func versionName(version int) string { return fmt.Sprintf("_MANIFEST.%06d.json", version) }

// newestVersion is the number of the newest manifest among a folder's names; 0
// is none.
func newestVersion(names []string) (newest int) {
	for _, name := range names {
		var v int
		if _, err := fmt.Sscanf(name, "_MANIFEST.%06d.json", &v); err == nil && name == versionName(v) {
			newest = max(newest, v)
		}
	}
	return newest
}

// Why a version was issued.
const (
	reasonClosed    = "closed"
	reasonLate      = "late rows"
	reasonCompacted = "compacted"
)

// manifest says what a folder holds and of which records of the topic that is
// all there is.
type manifest struct {
	Format    int     `json:"format"`
	Version   int     `json:"version"`
	Reason    string  `json:"reason"`
	Job       string  `json:"job"`
	Topic     string  `json:"topic"`
	Site      string  `json:"site"` // that issued this version
	Folder    string  `json:"folder"`
	Begin     instant `json:"begin"` // of the folder's period of event time
	End       instant `json:"end"`
	Watermark instant `json:"watermark"` // when it was issued
	Issued    instant `json:"issued"`
	Totals    totals  `json:"totals"`
	// Partitions say how the topic's records became rows, file or not.
	Partitions []share  `json:"partitions"`
	Files      []listed `json:"files"`
}

type totals struct {
	counts
	Late  int64 `json:"late_rows"` // of Rows, those that version 1 did not have
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// share is what a folder has of one partition.
type share struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first"` // offset of the first and the last record; -1 without any
	Last      int64  `json:"last"`
	// Accounted is the offset below which every record of the partition was
	// looked at: those that belong here are counted here.
	Accounted int64 `json:"accounted"`
	counts
}

// listed is a file of the folder.
type listed struct {
	fileInfo
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"` // range of offsets, as in the name
	To        int64  `json:"to"`
	Since     int    `json:"since"`            // version that listed it first
	Merged    int    `json:"merged,omitempty"` // number of files that it was made of
}

func (l listed) offsets() offsets {
	return offsets{record.TopicPartition{Topic: l.Topic, Partition: l.Partition}, l.From, l.To, ""}
}

// accounted is the offset below which the manifest has a partition's records;
// 0 without a manifest.
func (m *manifest) accounted(tp record.TopicPartition) int64 {
	if m == nil {
		return 0
	}
	for _, s := range m.Partitions {
		if s.Topic == tp.Topic && s.Partition == tp.Partition {
			return s.Accounted
		}
	}
	return 0
}

// with is the next version, with what has come since. m is nil for the first;
// base has what they have in common.
func (m *manifest) with(base manifest, more []addition, upTo map[record.TopicPartition]int64) manifest {
	next := base
	next.Format, next.Version, next.Reason = ledgerFormat, 1, reasonClosed
	if m != nil {
		next.Version, next.Reason, next.Totals.Late = m.Version+1, reasonLate, m.Totals.Late
		next.Partitions, next.Files = slices.Clone(m.Partitions), slices.Clone(m.Files)
	}
	for _, a := range more {
		next.share(a.TopicPartition).add(a)
		if a.File != nil {
			next.Files = append(next.Files, listed{
				fileInfo: *a.File, Topic: a.Topic, Partition: a.Partition, From: a.from, To: a.to, Since: next.Version,
			})
			if m != nil {
				next.Totals.Late += a.Rows
			}
		}
	}
	for tp, offset := range upTo {
		s := next.share(tp)
		s.Accounted = max(s.Accounted, offset)
	}
	next.sum()
	return next
}

// share finds what the folder has of a partition, or adds it.
func (m *manifest) share(tp record.TopicPartition) *share {
	i := slices.IndexFunc(m.Partitions, func(s share) bool { return s.Topic == tp.Topic && s.Partition == tp.Partition })
	if i < 0 {
		i = len(m.Partitions)
		m.Partitions = append(m.Partitions, share{Topic: tp.Topic, Partition: tp.Partition, First: -1, Last: -1})
	}
	return &m.Partitions[i]
}

func (s *share) add(a addition) {
	if s.First < 0 {
		s.First = a.First
	}
	s.First, s.Last = min(s.First, a.First), max(s.Last, a.Last)
	s.counts.add(a.counts)
}

// sum orders the lists and adds up the totals.
func (m *manifest) sum() {
	slices.SortFunc(m.Files, func(a, b listed) int { return a.offsets().compare(b.offsets()) })
	slices.SortFunc(m.Partitions, func(a, b share) int {
		return offsets{TopicPartition: record.TopicPartition{Topic: a.Topic, Partition: a.Partition}}.compare(
			offsets{TopicPartition: record.TopicPartition{Topic: b.Topic, Partition: b.Partition}})
	})
	m.Totals = totals{Late: m.Totals.Late, Files: len(m.Files)}
	for _, s := range m.Partitions {
		m.Totals.add(s.counts)
	}
	for _, f := range m.Files {
		m.Totals.Bytes += f.Bytes
	}
}

// check holds a manifest to itself: the counts agree in every way that they
// can be added up.
func (m *manifest) check() error {
	rows, byPartition := int64(0), map[record.TopicPartition]int64{}
	for i, f := range m.Files {
		rows += f.Rows
		byPartition[f.offsets().TopicPartition] += f.Rows
		if i > 0 && f.offsets().TopicPartition == m.Files[i-1].offsets().TopicPartition && f.From < m.Files[i-1].To {
			return fmt.Errorf("the files %s and %s have offsets in common", m.Files[i-1].Name, f.Name)
		}
	}
	for _, s := range m.Partitions {
		if s.Records != s.Rows+s.Skipped+s.Filtered+s.DeadLetters {
			return fmt.Errorf("%s-%d has %d records, but %d rows, %d skipped, %d filtered and %d dead letters", s.Topic, s.Partition, s.Records, s.Rows, s.Skipped, s.Filtered, s.DeadLetters)
		}
		if got := byPartition[record.TopicPartition{Topic: s.Topic, Partition: s.Partition}]; got != s.Rows {
			return fmt.Errorf("%s-%d has %d rows, its files have %d", s.Topic, s.Partition, s.Rows, got)
		}
	}
	if rows != m.Totals.Rows {
		return fmt.Errorf("the folder has %d rows, its files have %d", m.Totals.Rows, rows)
	}
	return nil
}

// decodeManifest reads a version and holds it to its place.
func decodeManifest(name string, text []byte) (*manifest, error) {
	m := &manifest{}
	if err := decodeLedger(name, text, m); err != nil {
		return nil, err
	}
	err := m.check()
	if err == nil && name != path.Join(m.Folder, versionName(m.Version)) {
		err = fmt.Errorf("it is version %d of folder %s", m.Version, m.Folder)
	}
	if err != nil {
		return nil, connectors.Fatalf("%s cannot be right: %w", name, err)
	}
	return m, nil
}

// differences compares a manifest with the names in its folder.
type differences struct {
	missing    []listed // in the manifest, not in the folder
	superseded []string // their rows are in a larger file of the manifest
	strange    []string // of the job's topics, and nobody knows of them
}

// compare finds what differs. Files of other topics are not ours. below is the
// offset of each partition below which all is in the ledger: files beyond are
// on their way, and will be in the next version.
func (m *manifest) compare(names []string, ours func(topic string) bool, below map[record.TopicPartition]int64) (d differences) {
	known := map[string]bool{}
	for _, f := range m.Files {
		if known[f.Name] = true; !slices.Contains(names, f.Name) {
			d.missing = append(d.missing, f)
		}
	}
	for _, name := range names {
		o, ok := parseName(name)
		if !ok || known[name] || !ours(o.Topic) {
			continue
		}
		merged := slices.ContainsFunc(m.Files, func(f listed) bool { return f.Merged > 0 && o.within(f.offsets()) })
		switch {
		case merged:
			d.superseded = append(d.superseded, name)
		case o.from < max(below[o.TopicPartition], m.accounted(o.TopicPartition)):
			d.strange = append(d.strange, name)
		}
	}
	slices.Sort(d.superseded)
	slices.Sort(d.strange)
	return d
}

func (d differences) String() string {
	var words []string
	for _, f := range d.missing {
		words = append(words, f.Name+" is missing")
	}
	for _, name := range d.strange {
		words = append(words, name+" is not in the ledger: it was there before manifests were kept, or somebody else has put it there")
	}
	return strings.Join(words, "; ")
}

// merge is one file to be made of several: neighbours of one partition.
type merge struct {
	offsets
	parts []listed
	rows  int64
}

// merges groups a manifest's small files. A group is full when it has the
// target's size, so no file but the last of a partition, or one before a file
// that was large before, is smaller than that.
func (m *manifest) merges(target int64) (all []merge) {
	var parts []listed
	var size int64
	end := func() {
		if len(parts) > 1 {
			all = append(all, mergeOf(parts))
		}
		parts, size = nil, 0
	}
	for _, f := range m.Files {
		if n := len(parts); n > 0 && (f.offsets().TopicPartition != parts[n-1].offsets().TopicPartition || ext(f.Name) != ext(parts[n-1].Name)) {
			end()
		}
		if f.Bytes >= target {
			end()
			continue
		}
		parts = append(parts, f)
		if size += f.Bytes; size >= target {
			end()
		}
	}
	end()
	return all
}

func mergeOf(parts []listed) merge {
	g := merge{offsets: parts[0].offsets(), parts: parts}
	g.to, g.ext = parts[len(parts)-1].To, ext(parts[0].Name)
	for _, p := range parts {
		g.rows += p.Rows
	}
	return g
}

func ext(name string) string {
	_, e, _ := strings.Cut(name[strings.LastIndexByte(name, '+')+1:], ".")
	return e
}

// replaced is the next version, with merged files in place of their parts.
func (m *manifest) replaced(base manifest, made map[string]fileInfo, groups []merge) manifest {
	next := *m
	next.Version, next.Reason, next.Site, next.Issued, next.Watermark = m.Version+1, reasonCompacted, base.Site, base.Issued, base.Watermark
	next.Files = slices.Clone(m.Files)
	for _, g := range groups {
		merged := 0
		for _, p := range g.parts {
			merged += max(1, p.Merged)
			next.Files = slices.DeleteFunc(next.Files, func(f listed) bool { return f.Name == p.Name })
		}
		next.Files = append(next.Files, listed{
			fileInfo: made[g.name()], Topic: g.Topic, Partition: g.Partition, From: g.from, To: g.to, Since: next.Version, Merged: merged,
		})
	}
	next.sum()
	return next
}
