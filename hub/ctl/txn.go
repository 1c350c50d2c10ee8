package ctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func (c *cli) txnCommand() *cobra.Command {
	return c.kafka(noun("txn", "List, describe and abort transactions",
		c.reading(c.txnList()), c.reading(c.txnDescribe()), c.txnAbort()))
}

// txnRow is one transactional ID of `txn list --json`. What is null is not
// there: a transaction that is open or being ended.
type txnRow struct {
	ID         string     `json:"transactional_id"`
	State      string     `json:"state"`
	Producer   int64      `json:"producer_id"`
	Epoch      int16      `json:"producer_epoch"`
	Partitions int        `json:"partitions"`
	Started    *time.Time `json:"started"`
	Error      string     `json:"error,omitempty"`
}

func (c *cli) txnList() *cobra.Command {
	var states []string
	var open time.Duration
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List transactional IDs with the state of their transactions",
		Example: "  entrepot txn list --state Ongoing --open-for 5m",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				rows, err := listTransactions(ctx, admin, states)
				if err != nil {
					return err
				}
				now := time.Now()
				rows = slices.DeleteFunc(rows, func(r txnRow) bool {
					return open > 0 && (r.Started == nil || now.Sub(*r.Started) < open)
				})
				return c.print(rows, func(w io.Writer) {
					t := newTable("no transactions", "TRANSACTIONAL ID", "STATE", ">PRODUCER", ">EPOCH", ">PARTITIONS", ">OPEN FOR")
					for _, r := range rows {
						t.row(r.ID, r.State, fmt.Sprint(r.Producer), fmt.Sprint(r.Epoch), fmt.Sprint(r.Partitions), since(now, r.Started))
					}
					t.write(w)
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only these states: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort")
	cmd.Flags().DurationVar(&open, "open-for", 0, "only transactions that are open for as long, such as 5m")
	return cmd
}

func listTransactions(ctx context.Context, admin *kadm.Client, states []string) ([]txnRow, error) {
	listed, err := admin.ListTransactions(ctx, nil, states)
	if err != nil {
		return nil, explain("list transactions", err, "")
	}
	rows := []txnRow{}
	if len(listed) == 0 {
		return rows, nil
	}
	described, err := admin.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	if err != nil {
		return nil, explain("describe transactions", err, "")
	}
	for _, l := range listed.Sorted() {
		row := txnRow{ID: l.TxnID, State: l.State, Producer: l.ProducerID, Epoch: -1}
		if d, ok := described[l.TxnID]; ok && d.Err == nil {
			row = rowOf(d)
		} else if ok {
			row.Error = d.Err.Error()
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b txnRow) int { return strings.Compare(a.ID, b.ID) })
	return rows, nil
}

func rowOf(d kadm.DescribedTransaction) txnRow {
	row := txnRow{ID: d.TxnID, State: d.State, Producer: d.ProducerID, Epoch: d.ProducerEpoch}
	for _, ps := range d.Topics {
		row.Partitions += len(ps)
	}
	if d.StartTimestamp >= 0 && row.Partitions > 0 {
		at := time.UnixMilli(d.StartTimestamp).UTC()
		row.Started = &at
	}
	return row
}

func since(now time.Time, at *time.Time) string {
	if at == nil {
		return "-"
	}
	return max(0, now.Sub(*at)).Round(time.Second).String()
}

// txnDetail is `txn describe --json`.
type txnDetail struct {
	txnRow
	Coordinator int32          `json:"coordinator"`
	TimeoutMs   int32          `json:"timeout_ms"`
	Topics      []txnPartition `json:"topics"`
}

type txnPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

func (c *cli) txnDescribe() *cobra.Command {
	return &cobra.Command{
		Use:     "describe TRANSACTIONAL-ID",
		Short:   "Show a transactional ID, its producer and the partitions of its transaction",
		Example: "  entrepot txn describe billing-7",
		Args:    exactly("TRANSACTIONAL-ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				d, err := describeTransaction(ctx, admin, args[0])
				if err != nil {
					return err
				}
				return c.print(d, func(w io.Writer) { writeTransaction(w, d) })
			})
		},
	}
}

func describeTransaction(ctx context.Context, admin *kadm.Client, id string) (txnDetail, error) {
	all, err := admin.DescribeTransactions(ctx, id)
	d, ok := all[id]
	if err == nil && ok {
		err = d.Err
	}
	if err == nil && !ok {
		err = fmt.Errorf("the site did not answer for it")
	}
	if err != nil {
		return txnDetail{}, explain("transactional ID "+id, err, "")
	}
	out := txnDetail{txnRow: rowOf(d), Coordinator: d.Coordinator, TimeoutMs: d.TimeoutMillis, Topics: []txnPartition{}}
	for _, t := range d.Topics.Sorted() {
		for _, p := range t.Partitions {
			out.Topics = append(out.Topics, txnPartition{t.Topic, p})
		}
	}
	return out, nil
}

func writeTransaction(w io.Writer, d txnDetail) {
	started := ""
	if d.Started != nil {
		started = stamp(*d.Started)
	}
	facts(w, "transactional ID", d.ID, "state", d.State, "producer", fmt.Sprintf("%d epoch %d", d.Producer, d.Epoch),
		"coordinator", fmt.Sprint(d.Coordinator), "timeout", (time.Duration(d.TimeoutMs) * time.Millisecond).String(), "started", started)
	fmt.Fprintln(w)
	t := newTable("no partitions: no transaction is open", "TOPIC", ">PARTITION")
	for _, p := range d.Topics {
		t.row(p.Topic, fmt.Sprint(p.Partition))
	}
	t.write(w)
}
