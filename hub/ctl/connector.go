package ctl

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) connectorCommand() *cobra.Command {
	return c.overHTTP(noun("connector", "Show, try, make, pause, resume, stop and restart connectors",
		c.reading(c.connectorList()), c.reading(c.connectorStatus()),
		c.connectorVerb(admin.Pause, "Stop a connector where it is, until it is resumed"),
		c.connectorVerb(admin.Resume, "Let a paused connector go on"),
		c.connectorVerb(admin.Stop, "Stop a connector until it is resumed, so that its offsets can be set"),
		c.connectorOffsets(), c.connectorRewind(),
		c.connectorVerb(admin.Restart, "Stop a connector and start it again from its last position"),
		c.connectorApply(), c.connectorDryRun(),
		c.connectorDelete()))
}

func (c *cli) connectorList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List connectors with their state and counts",
		Example: "  entrepot connector list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var jobs []admin.Job
			if err := c.get(cmd.Context(), "/v1/jobs", &jobs); err != nil {
				return err
			}
			return c.print(jobs, func(w io.Writer) {
				t := newTable("no connectors run at this site", "CONNECTOR", "KIND", "TYPE", "TOPIC", "STATE", ">LAG", "COUNTS")
				for _, j := range jobs {
					t.row(j.Name, j.Kind, j.Connector, dash(j.Topic), j.State, jobLag(j), dash(counts(j)))
				}
				t.write(w)
			})
		},
	}
}

func (c *cli) connectorStatus() *cobra.Command {
	return &cobra.Command{
		Use:     "status NAME",
		Short:   "Show one connector with its tasks",
		Example: "  entrepot connector status clicks-lake",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var j admin.Job
			if err := c.get(cmd.Context(), "/v1/jobs/"+url.PathEscape(args[0]), &j); err != nil {
				return err
			}
			return c.print(j, func(w io.Writer) { writeJob(w, j) })
		},
	}
}

func (c *cli) connectorVerb(action admin.Action, short string) *cobra.Command {
	verb := string(action)
	return &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Example: "  entrepot connector " + verb + " clicks-lake",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var j admin.Job
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/jobs/"+url.PathEscape(args[0])+"/"+verb, &j); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "connector %s is %s\n", j.Name, j.State)
			return nil
		},
	}
}

func writeJob(w io.Writer, j admin.Job) {
	reason := "reason"
	if j.State == "running" && j.Retrying == nil {
		reason = "last error" // which is over
	}
	facts(w, "connector", j.Name, "kind", j.Kind, "type", j.Connector, "topic", j.Topic, "state", j.State, reason, j.Reason, "retrying", retrying(j),
		"guarantee", j.Guarantee, "lag", jobLag(j), "counts", counts(j))
	fmt.Fprintln(w)
	t := newTable("no tasks", "TASK", "STATE", "POSITION", "REASON")
	for _, task := range j.Tasks {
		t.row(task.ID, task.State, dash(task.Position), dash(task.Reason))
	}
	t.write(w)
}

// retrying is for how long a job has made no progress; "" when it does.
func retrying(j admin.Job) string {
	r := j.Retrying
	if r == nil {
		return ""
	}
	since := r.Since.UTC().Format(time.RFC3339)
	return fmt.Sprintf("since %s (%v, %d attempts)", since, time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.Attempts)
}

// jobLag is a sink's; a source has none that could be told.
func jobLag(j admin.Job) string {
	if j.Kind != "sink" {
		return "-"
	}
	return measure(j.Lag)
}

func counts(j admin.Job) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(j.Counters)) {
		all = append(all, name+" "+grouped(j.Counters[name]))
	}
	return strings.Join(all, ", ")
}
