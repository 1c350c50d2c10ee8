package ctl

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// begin opens a transaction with one record in the topic.
func begin(t *testing.T, addr, id, topic string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("v")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return client
}

func TestTransactions(t *testing.T) {
	addr, client := broker(t)
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	if out := mustRun(t, do("txn list")...); out != "no transactions\n" {
		t.Errorf("list: %q", out)
	}
	done := begin(t, addr, "done", "orders")
	if err := done.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	open := begin(t, addr, "open", "orders")

	var rows []txnRow
	mustJSON(t, &rows, do("txn list")...)
	if len(rows) != 2 || rows[0].ID != "done" || rows[0].Started != nil || rows[1].State != "Ongoing" || rows[1].Partitions != 1 || rows[1].Started == nil {
		t.Errorf("list --json: %+v", rows)
	}
	if out := mustRun(t, do("txn list --state Ongoing")...); !strings.HasPrefix(out, "TRANSACTIONAL ID  STATE ") || strings.Contains(out, "done") || !strings.Contains(out, "\nopen ") {
		t.Errorf("list:\n%s", out)
	}
	if out := mustRun(t, do("txn list --open-for 1h")...); out != "no transactions\n" {
		t.Errorf("list --open-for: %q", out)
	}
	var d txnDetail
	mustJSON(t, &d, do("txn describe open")...)
	if d.Producer != rows[1].Producer || len(d.Topics) != 1 || d.Topics[0] != (txnPartition{"orders", 0}) || d.TimeoutMs != 40_000 {
		t.Errorf("describe --json: %+v", d)
	}
	out := mustRun(t, do("txn describe open")...)
	for _, want := range []string{"transactional ID:  open\n", "timeout:           40s\n", "TOPIC   PARTITION\norders          0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe lacks %q:\n%s", want, out)
		}
	}
	if out := mustRun(t, do("txn abort open")...); out != "aborted the transaction of open over 1 partition; its producer is fenced\n" {
		t.Errorf("abort: %q", out)
	}
	if err := open.EndTransaction(t.Context(), kgo.TryCommit); err == nil {
		t.Error("the producer committed what was aborted")
	}
	if out := mustRun(t, do("txn abort done")...); out != "done had no transaction open; its producer is fenced\n" {
		t.Errorf("abort of none: %q", out)
	}
}

func TestTransactionThatHangs(t *testing.T) {
	addr, client := broker(t)
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	begin(t, addr, "open", "orders")
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	var d txnDetail
	mustJSON(t, &d, do("txn describe open")...)
	r := run(t, Deps{}, do("txn abort --topic orders --partition 0")...)
	if want := fmt.Sprintf("these have: %d since offset 0 (it last wrote ", d.Producer); r.status != Failed || !strings.Contains(r.stderr, want) {
		t.Errorf("without a producer: %+v, want %q", r, want)
	}
	want := fmt.Sprintf("aborted what producer %d in orders-0 had open since offset 0\n", d.Producer)
	if out := mustRun(t, do(fmt.Sprintf("txn abort --topic orders --partition 0 --producer %d", d.Producer))...); out != want {
		t.Errorf("abort: %q, want %q", out, want)
	}
}

func TestTransactionUsage(t *testing.T) {
	addr, _ := broker(t)
	for args, want := range map[string]string{
		"txn abort":                            "takes a transactional ID, or --topic",
		"txn abort x --topic t":                "takes a transactional ID, or --topic",
		"txn abort --topic t":                  "needs --topic, --partition and --producer",
		"txn abort --partition 3 --producer 1": "needs --topic, --partition and --producer",
	} {
		if r := run(t, Deps{}, append(strings.Fields(args), "--brokers", addr)...); r.status != Usage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
	for args, want := range map[string]string{
		"txn describe nope":                    "entrepot txn list",
		"txn abort nope":                       "entrepot txn list",
		"txn abort --topic nope --partition 0": "UNKNOWN_TOPIC_OR_PARTITION",
	} {
		if r := run(t, Deps{}, append(strings.Fields(args), "--brokers", addr)...); r.status == Done || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}
