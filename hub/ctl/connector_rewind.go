package ctl

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) connectorRewind() *cobra.Command {
	var to string
	var dry bool
	cmd := &cobra.Command{
		Use:   "rewind NAME --to-time TIME",
		Short: "Take a stopped connector back to a time, to read from there once more",
		Long: `Take a connector that is stopped or paused back to the first record at or after
a time, in each of its partitions, and show what will be read again. It never
goes forward, which would leave records out. Nothing is deleted anywhere: what
has been written stays, and the answer says what becomes of records that the
destination has already.

TIME is RFC 3339, a date (its begin in UTC), or how long ago, such as 36h. A
sink goes back by the time of the records in its topic; of the sources kafka
by the time of its messages, and postgres by its timestamp.`,
		Example: `  entrepot connector rewind clicks-lake --to-time 2026-05-17T10:00:00Z --dry-run
  entrepot connector rewind clicks-lake --to-time 36h --json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := timeOf(to, time.Now())
			if err != nil {
				return err
			}
			var out admin.Rewind
			path := "/v1/jobs/" + url.PathEscape(args[0]) + "/rewind"
			if err := c.send(cmd.Context(), http.MethodPost, path, admin.RewindTo{Time: at, DryRun: dry}, &out); err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeRewind(w, out, dry) })
		},
	}
	cmd.Flags().StringVar(&to, "to-time", "", "`TIME` to go back to")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be read again")
	return c.reading(cmd)
}

// timeOf reads a time: RFC 3339, a date, or a duration before now.
func timeOf(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, usagef("--to-time %q: want a time such as 2026-05-17T10:00:00Z, a date such as 2026-05-17, or how long ago, such as 36h", text)
}

func writeRewind(w io.Writer, r admin.Rewind, dry bool) {
	t := newTable("nothing has been committed yet: there is nothing to go back from", "PART", ">FROM", ">TO", ">RECORDS")
	var total int64
	moves := 0
	for _, p := range r.Parts {
		from, to, records := p.From.Where, p.To.Where, "?"
		part := p.From.Split
		if part == "" {
			part, from, to = fmt.Sprintf("%s-%d", p.From.Topic, p.From.Partition), grouped(p.From.Offset), grouped(p.To.Offset)
		}
		if p.Records >= 0 {
			records = grouped(p.Records)
			total += p.Records
		}
		moves += oneIf(!p.Stays)
		t.row(part, dash(from), dash(to), records)
	}
	t.write(w)
	if moves == 0 {
		fmt.Fprintf(w, "nothing moves: no part is behind %s\n", stamp(r.Time))
		return
	}
	if r.Kind == "sink" {
		fmt.Fprintf(w, "%s at most are read again\n", plural(int(total), "record"))
	}
	fmt.Fprintf(w, "then: %s\n", r.Then)
	if dry {
		fmt.Fprintln(w, "nothing was moved")
		return
	}
	fmt.Fprintf(w, "moved; `entrepot connector resume %s` lets it go on\n", r.Job)
}
