package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/entrepot-hub/entrepot/stream"
)

// progress is how far each step is, by the hubs' own counters: what people
// watch while the work goes on. The report is counted from outside.
type progress struct {
	read, dead, east, west, rows int64
	readAll, loadedAll           bool
	failed                       string
}

func (s *sites) progress() progress {
	source, sink := job(s.east, sourceJob), job(s.west, sinkJob)
	p := progress{
		read: source.Read, dead: source.DeadLetters,
		east: records(s.east), west: records(s.west), rows: sink.Written,
		readAll: source.State == stream.Completed,
	}
	p.loadedAll = p.readAll && p.west == p.east && sink.Lag == 0 && s.west.Has(topic)
	for _, j := range []stream.JobStatus{source, sink} {
		if j.State == stream.Failed {
			p.failed = fmt.Sprintf("job %s has failed: %s", j.Name, j.LastError)
		}
	}
	return p
}

func job(h Node, name string) stream.JobStatus {
	for _, j := range h.Jobs() {
		if j.Name == name {
			return j
		}
	}
	return stream.JobStatus{}
}

// records is how many offsets of the topic a site holds.
func records(h Node) (n int64) {
	for p := range int32(partitions) {
		o := h.Offsets(topic, p)
		n += o.HighWatermark - o.Start
	}
	return n
}

// follow shows the progress until everything has arrived, then compares.
func (s *sites) follow(ctx context.Context, out io.Writer) (*Report, error) {
	began, moved := time.Now(), time.Now()
	var last progress
	line := newLine(out)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now := s.progress()
		if now != last {
			last, moved = now, time.Now()
		}
		line.show(now, time.Since(began))
		switch {
		case now.failed != "":
			line.end()
			return nil, errors.New(now.failed)
		case now.loadedAll:
			line.end()
			return s.compare(ctx, now)
		case time.Since(moved) > patience:
			line.end()
			return nil, fmt.Errorf("nothing has moved for %s: %d read, %d at east, %d at west, %d rows", patience, now.read, now.east, now.west, now.rows)
		}
		select {
		case <-tick.C:
		case err := <-s.ended:
			s.running--
			return nil, fmt.Errorf("a site has ended: %w", err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *sites) compare(ctx context.Context, p progress) (*Report, error) {
	check := Check{East: s.east.Kafka(), West: s.west.Kafka(), Topic: topic, Partitions: partitions, Lake: s.lake}
	report, err := check.Take(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	report.Read, report.Dead = p.read, p.dead
	return report, nil
}

// line is the progress: one line that is written over on a terminal, a new one
// each second elsewhere.
type line struct {
	out      io.Writer
	terminal bool
	shown    time.Duration
}

func newLine(out io.Writer) *line {
	l := &line{out: out, shown: -time.Hour}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		l.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return l
}

func (l *line) show(p progress, since time.Duration) {
	if !l.terminal && since-l.shown < time.Second {
		return
	}
	l.shown = since
	start, end := "", "\n"
	if l.terminal {
		start, end = "\r\033[K", ""
	}
	rate := int64(float64(p.rows) / max(since.Seconds(), 0.001))
	_, _ = fmt.Fprintf(l.out, "%s%6.1f s   read %s   east %s   west %s   rows %s   (%s rows/s)%s",
		start, since.Seconds(), grouped(p.read), grouped(p.east), grouped(p.west), grouped(p.rows), grouped(rate), end)
}

func (l *line) end() {
	if l.terminal {
		_, _ = fmt.Fprintln(l.out)
	}
}
