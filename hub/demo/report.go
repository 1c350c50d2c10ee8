package demo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Check names what a check compares: a topic at the site that writes it and at
// the one that mirrors it, and the lake that was loaded there.
type Check struct {
	East, West string // Kafka addresses, host:port
	Topic      string
	Partitions int32
	Lake       string // folder with dt=…/hr=…
}

// Report is what was found at each step.
type Report struct {
	Check
	Read, Dead int64 // of the source, as its checkpoint counts them
	East, West *copyOf
	Lake       *lake
}

// Take reads both sites and the lake from outside: over the Kafka listeners
// and from the files' own footers.
func (c Check) Take(ctx context.Context) (*Report, error) {
	r := &Report{Check: c, Read: -1}
	var err error
	if r.East, err = readTopic(ctx, c.East, c.Topic, c.Partitions); err != nil {
		return nil, err
	}
	if r.West, err = readTopic(ctx, c.West, c.Topic, c.Partitions); err != nil {
		return nil, err
	}
	r.Lake, err = readLake(c.Lake)
	return r, err
}

// Disagreements says what does not agree, a sentence each; none is success.
func (r *Report) Disagreements() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if r.Read >= 0 && r.Read != r.East.records+r.Dead {
		add("%d records were read, but %d are in the topic at east and %d among the dead letters", r.Read, r.East.records, r.Dead)
	}
	for p := range r.East.partitions {
		e, w := r.East.partitions[p], r.West.partitions[p]
		if e.start != w.start || e.end != w.end {
			add("partition %d has offsets %d to %d at east, %d to %d at west", p, e.start, e.end, w.start, w.end)
		} else if e.sum != w.sum {
			add("partition %d has other bytes at west than at east", p)
		}
	}
	if r.East.records != r.West.records {
		add("%d records at east, %d at west", r.East.records, r.West.records)
	}
	if r.Lake.rows != r.West.records {
		add("%d records at west, %d rows in the lake", r.West.records, r.Lake.rows)
	}
	for _, hour := range slices.Sorted(maps.Keys(r.West.hours)) {
		if e, w, l := r.East.hours[hour], r.West.hours[hour], r.Lake.hours[hour]; e != w || w != l {
			add("hour %s has %d records at east, %d at west, %d rows in the lake", hour, e, w, l)
		}
	}
	for _, hour := range slices.Sorted(maps.Keys(r.Lake.hours)) {
		if _, ok := r.West.hours[hour]; !ok {
			add("hour %s has %d rows in the lake and no record at west", hour, r.Lake.hours[hour])
		}
	}
	return all
}

// write prints the table.
func (r *Report) write(out io.Writer, input string) {
	same := "same offsets, same bytes"
	if len(r.Disagreements()) > 0 {
		same = "compared below"
	}
	rows := []struct {
		step, detail string
		n            int64
	}{
		{"read from the log", input, r.Read},
		{"  not understood", "dead letters, topic " + deadLetters, r.Dead},
		{"topic " + r.Topic + " at east", fmt.Sprintf("%d partitions, %s, %d hours of event time", len(r.East.partitions), size(r.East.bytes), len(r.East.hours)), r.East.records},
		{"topic " + r.Topic + " at west", same, r.West.records},
		{"rows in the lake", fmt.Sprintf("%d hourly folders, %d Parquet files", len(r.Lake.hours), r.Lake.files), r.Lake.rows},
	}
	_, _ = fmt.Fprintf(out, "\n%-24s %12s   %s\n", "STEP", "RECORDS", "DETAIL")
	for _, row := range rows {
		_, _ = fmt.Fprintf(out, "%-24s %12s   %s\n", row.step, grouped(row.n), row.detail)
	}
	bad := r.Disagreements()
	if len(bad) == 0 {
		_, _ = fmt.Fprintf(out, "\nAll steps agree, in total and for each of the %d hours.\n", len(r.West.hours))
		return
	}
	_, _ = fmt.Fprintf(out, "\nThe steps do NOT agree:\n  %s\n", strings.Join(bad, "\n  "))
}

// grouped writes 10000 as 10,000.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d records at east, %d at west in %s, %d rows in %d hourly folders and %d files",
		r.East.records, r.West.records, size(r.West.bytes), r.Lake.rows, len(r.Lake.hours), r.Lake.files)
}
