package ctl

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *cli) quotaCommand() *cobra.Command {
	return c.kafka(noun("quota", "Set, list and delete quotas of users and client IDs",
		c.quotaSet(), c.reading(c.quotaList()), c.quotaDelete()))
}

// quotaEntity is whose quota it is.
type quotaEntity struct{ user, client string }

// anyone is the flag's value for the default.
const anyone = "default"

func (e *quotaEntity) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.user, "user", "", "of user `NAME`; default is every user without a quota of his own")
	cmd.Flags().StringVar(&e.client, "client", "", "of client `ID`; default is every client ID without a quota of its own")
}

func (e *quotaEntity) entity() (kadm.ClientQuotaEntity, error) {
	var out kadm.ClientQuotaEntity
	for _, part := range []struct{ kind, name string }{{"user", e.user}, {"client-id", e.client}} {
		if part.name == "" {
			continue
		}
		component := kadm.ClientQuotaEntityComponent{Type: part.kind, Name: &part.name}
		if part.name == anyone {
			component.Name = nil
		}
		out = append(out, component)
	}
	if len(out) == 0 {
		return nil, usagef("a quota is one of a user, of a client ID, or of both together: give --user or --client")
	}
	return out, nil
}

// The limits by the names of their flags.
var quotaKeys = [...]struct{ flag, key, usage string }{
	{"produce", "producer_byte_rate", "`BYTES` a second that may be produced"},
	{"fetch", "consumer_byte_rate", "`BYTES` a second that may be fetched"},
	{"request", "request_percentage", "`PERCENT` of one processor's time for requests"},
	{"partitions", "controller_mutation_rate", "`N` partitions a second that may be created and deleted"},
}

func (c *cli) quotaSet() *cobra.Command {
	var e quotaEntity
	limits := make([]float64, len(quotaKeys))
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Limit what a user or client ID may use",
		Example: `  entrepot quota set --user alice --produce 1000000 --fetch 5000000
  entrepot quota set --user default --client default --request 50`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ops []kadm.AlterClientQuotaOp
			for i, k := range quotaKeys {
				if cmd.Flags().Changed(k.flag) {
					ops = append(ops, kadm.AlterClientQuotaOp{Key: k.key, Value: limits[i]})
				}
			}
			if len(ops) == 0 {
				return usagef("give --produce, --fetch, --request or --partitions")
			}
			return c.alterQuota(cmd.Context(), "set", e, ops)
		},
	}
	e.register(cmd)
	for i, k := range quotaKeys {
		cmd.Flags().Float64Var(&limits[i], k.flag, 0, k.usage)
	}
	return cmd
}

func (c *cli) quotaDelete() *cobra.Command {
	var e quotaEntity
	cmd := &cobra.Command{
		Use:     "delete",
		Short:   "Take all limits of a user or client ID away",
		Example: "  entrepot quota delete --user alice",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ops []kadm.AlterClientQuotaOp
			for _, k := range quotaKeys {
				ops = append(ops, kadm.AlterClientQuotaOp{Key: k.key, Remove: true})
			}
			return c.alterQuota(cmd.Context(), "deleted", e, ops)
		},
	}
	e.register(cmd)
	return cmd
}

func (c *cli) alterQuota(ctx context.Context, done string, e quotaEntity, ops []kadm.AlterClientQuotaOp) error {
	entity, err := e.entity()
	if err != nil {
		return err
	}
	return c.withAdmin(ctx, func(ctx context.Context, admin *kadm.Client) error {
		results, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: entity, Ops: ops}})
		if err != nil {
			return explain("quota", err, "")
		}
		for _, r := range results {
			if r.Err != nil {
				return explain("quota of "+entity.String(), r.Err, r.ErrMessage)
			}
		}
		fmt.Fprintf(c.out, "%s the quota of %s\n", done, entity)
		return nil
	})
}

// quotaRow is one quota of `quota list --json`; empty is the default, null none.
type quotaRow struct {
	User   *string            `json:"user"`
	Client *string            `json:"client"`
	Limits map[string]float64 `json:"limits"`
}

func (c *cli) quotaList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List quotas",
		Example: "  entrepot quota list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withKafka(cmd.Context(), func(ctx context.Context, client kmsg.Requestor) error {
				resp, err := kmsg.NewPtrDescribeClientQuotasRequest().RequestWith(ctx, client)
				if err != nil {
					return explain("list quotas", err, "")
				}
				if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
					return explain("list quotas", err, orNothing(resp.ErrorMessage))
				}
				rows := []quotaRow{}
				for _, e := range resp.Entries {
					row := quotaRow{Limits: map[string]float64{}}
					for _, part := range e.Entity {
						name := orNothing(part.Name)
						if part.Type == "user" {
							row.User = &name
						} else {
							row.Client = &name
						}
					}
					for _, v := range e.Values {
						row.Limits[v.Key] = v.Value
					}
					rows = append(rows, row)
				}
				return c.print(rows, func(w io.Writer) { writeQuotas(w, rows) })
			})
		},
	}
}

func writeQuotas(w io.Writer, rows []quotaRow) {
	name := func(s *string) string {
		switch {
		case s == nil:
			return "-"
		case *s == "":
			return anyone
		}
		return *s
	}
	t := newTable("no quotas", "USER", "CLIENT", "LIMIT", ">VALUE")
	for _, r := range rows {
		for _, k := range slices.Sorted(maps.Keys(r.Limits)) {
			t.row(name(r.User), name(r.Client), k, strconv.FormatFloat(r.Limits[k], 'f', -1, 64))
		}
	}
	t.write(w)
}
