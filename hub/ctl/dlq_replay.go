package ctl

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) dlqReplay() *cobra.Command {
	return &cobra.Command{
		Use:   "replay NAME",
		Short: "Bring a connector's dead letters through its present config",
		Long: "Bring the dead letters of a connector that were not replayed before through its present\n" +
			"config, up to the newest one now. Each reaches its destination once; what fails again\n" +
			"becomes a new dead letter. The connector may run meanwhile.",
		Example: "  entrepot dlq replay access-log",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.TrimSuffix(args[0], dlqSuffix)
			var sum admin.Replayed
			for {
				var done admin.Replayed
				if err := c.call(cmd.Context(), http.MethodPost, "/v1/jobs/"+url.PathEscape(name)+"/replay", &done); err != nil {
					return err
				}
				sum.Read += done.Read
				sum.Written += done.Written
				sum.Filtered += done.Filtered
				sum.Dead += done.Dead
				if sum.Left = done.Left; done.Left == 0 || done.Read == 0 {
					break
				}
			}
			return c.print(sum, func(w io.Writer) {
				fmt.Fprintf(w, "%s replayed: %s written, %s filtered, %s dead again\n",
					plural(int(sum.Read), "dead letter"), grouped(sum.Written), grouped(sum.Filtered), grouped(sum.Dead))
				if sum.Left > 0 {
					fmt.Fprintf(w, "at most %s left: nothing more came of the last request; ask again\n", plural(int(sum.Left), "dead letter"))
				}
			})
		},
	}
}

func (c *cli) dlqDrop() *cobra.Command {
	var before int64
	cmd := &cobra.Command{
		Use:   "drop NAME",
		Short: "Delete dead letters for good",
		Long: "Delete the dead letters of a connector: all that are there now, or those before an offset\n" +
			"of `dlq show`.",
		Example: "  entrepot dlq drop access-log\n  entrepot dlq drop access-log --before 1200",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, adm *kadm.Client) error {
				return c.dropLetters(ctx, adm, args[0], before)
			})
		},
	}
	cmd.Flags().Int64Var(&before, "before", -1, "delete the letters below `OFFSET`; all without it")
	return cmd
}

func (c *cli) dropLetters(ctx context.Context, adm *kadm.Client, name string, before int64) error {
	detail, err := findLetters(ctx, adm, name)
	if err != nil {
		return err
	}
	to, dropped := kadm.Offsets{}, int64(0)
	for _, p := range detail.Partitions {
		end := p.HighWatermark
		if before >= 0 {
			end = min(end, before)
		}
		if end <= p.LogStart {
			continue
		}
		dropped += end - p.LogStart
		to.AddOffset(detail.Name, p.Partition, end, -1)
	}
	if len(to) > 0 {
		answers, err := adm.DeleteRecords(ctx, to)
		if err == nil {
			err = answers.Error()
		}
		if err != nil {
			return explain("delete dead letters of "+detail.Name, err, "")
		}
	}
	fmt.Fprintf(c.out, "%s dropped from %s\n", plural(int(dropped), "dead letter"), detail.Name)
	return nil
}
