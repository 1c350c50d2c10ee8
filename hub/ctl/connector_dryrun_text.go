package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/entrepot-hub/entrepot/stream"
)

// dryText is a dry run for people.
type dryText struct{ dryReport }

func (r dryText) write(w io.Writer) {
	bad := 0
	for i, j := range r.Jobs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  (%s, %s:%d)\n", j.Name, j.Kind, j.File, j.Line)
		r.picture(w, j)
		fmt.Fprintf(w, "  %s\n", j.Guarantee)
		if r.Live {
			writeLook(w, j)
		}
		for _, l := range j.Losses {
			bad += oneIf(l.Bad())
			writeLoss(w, l)
		}
		for _, n := range j.Notes {
			fmt.Fprintf(w, "  note: %s\n", n)
		}
	}
	fmt.Fprintln(w)
	switch {
	case bad > 0:
		fmt.Fprintf(w, "%s to look at; nothing was written\n", plural(bad, "finding"))
	case r.Live:
		fmt.Fprintln(w, "ok; nothing was written")
	default:
		fmt.Fprintln(w, "ok; nothing was asked of any system, --live looks at them")
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// picture draws the way of a record from top to bottom.
func (r dryText) picture(w io.Writer, j stream.DryJob) {
	from, to := systemOf(j), "topic "+j.Topic+r.others(j, "sink", " ──▶ ")
	if j.Kind == "sink" {
		from, to = "topic "+j.Topic+r.others(j, "source", " ◀── "), systemOf(j)
	}
	fmt.Fprintf(w, "\n    %s\n      │\n", from)
	for _, s := range j.Steps {
		fmt.Fprintf(w, "      │  %s\n", s)
	}
	for _, more := range [][2]string{{"key", j.Key}, {"timestamp", j.Timestamp}} {
		if more[1] != "" {
			fmt.Fprintf(w, "      │  %s %s\n", more[0], more[1])
		}
	}
	fmt.Fprintf(w, "      ├──▶ topic %s (what fails)\n      ▼\n    %s\n\n", j.DLQ, to)
}

// others names the jobs of the files at the other side of the topic.
func (r dryText) others(j stream.DryJob, kind, arrow string) string {
	var names []string
	for _, other := range r.Jobs {
		if other.Topic == j.Topic && other.Kind == kind {
			names = append(names, other.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return arrow + strings.Join(names, ", ")
}

// writeLook is what was seen of the real systems.
func writeLook(w io.Writer, j stream.DryJob) {
	if j.Target != "" {
		fmt.Fprintf(w, "  writes to %s\n", j.Target)
	}
	if s := j.Sample; s != nil {
		fmt.Fprintf(w, "  sample: %s of %s; %s filtered, %s failed, %s came through\n",
			plural(s.Read, "record"), s.From, grouped(int64(s.Filtered)), grouped(int64(s.Failed)), grouped(int64(s.Records)))
		if s.Example != "" {
			fmt.Fprintf(w, "  such as %s\n", text([]byte(s.Example)))
		}
	}
	if len(j.Mapping) > 0 {
		t := newTable("", "  FIELD", "SOURCE TYPE", "JSON", "COLUMN", "TYPE")
		for _, m := range j.Mapping {
			t.row("  "+m.Field, dash(m.SourceType), dash(m.JSON), dash(m.Column), dash(m.Type))
		}
		t.write(w)
	}
	for _, m := range j.Makes {
		fmt.Fprintf(w, "  would run first: %s\n", m)
	}
}

func writeLoss(w io.Writer, l stream.Loss) {
	fmt.Fprintf(w, "  %s: %s", l.Severity, l.Kind)
	if l.Field != "" {
		fmt.Fprintf(w, ", %s", l.Field)
	}
	fmt.Fprintf(w, ": %s", l.Message)
	if l.Records > 0 {
		fmt.Fprintf(w, " (%s of the sample)", plural(l.Records, "record"))
	}
	if l.Hint != "" {
		fmt.Fprintf(w, "; %s", l.Hint)
	}
	fmt.Fprintln(w)
}
