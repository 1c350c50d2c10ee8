package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/plugins/host"
	"github.com/entrepot-hub/entrepot/record"
)

// patience only ends a test that hangs.
const patience = time.Minute

// again tries until it is no longer an error that another try may mend.
func again[T any](ctx context.Context, try func() (T, error)) (T, error) {
	for {
		v, err := try()
		if err == nil || connectors.ClassOf(err) != connectors.ClassRetry {
			return v, err
		}
		if ctx.Err() != nil || connectors.Pause(ctx, max(100*time.Millisecond, connectors.RetryAfter(err))) != nil {
			return v, err
		}
	}
}

// splits reads the final list.
func splits(t *testing.T, source connectors.Source, cfg connectors.Config) (last []connectors.Split) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lists, err := again(ctx, func() (<-chan []connectors.Split, error) { return source.Splits(ctx, cfg) })
	if err != nil {
		t.Fatal(err)
	}
	for list := range lists {
		last = list
	}
	return last
}

// readAll reads everything, as the texts of the originals of each split.
func readAll(t *testing.T, source connectors.Source, cfg connectors.Config) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, s := range splits(t, source, cfg) {
		texts, _ := rest(t, source, cfg, s, nil, 0)
		all[s.ID] = texts
	}
	return all
}

// rest reads from a position: to the end, or most messages if it is above 0.
func rest(t *testing.T, source connectors.Source, cfg connectors.Config, s connectors.Split, from connectors.Position, most int) (texts []string, at connectors.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at = from
	r, err := again(ctx, func() (connectors.Reader, error) { return source.Open(ctx, conntest.Task(cfg), s, from) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(context.WithoutCancel(ctx)) }()
	for most == 0 || len(texts) < most {
		b, err := r.Read(ctx, connectors.Limits{Records: max(0, most-len(texts)), Wait: time.Second})
		for _, m := range b.Messages {
			texts, at = append(texts, string(m.Original)), m.Position
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatalf("split %s does not end; the config has to be one that reads everything once", s.ID)
		}
	}
	return texts, at
}

// killedSource: another process goes on exactly where one was killed.
func killedSource(t *testing.T, h *host.Host, source connectors.Source, c conntest.SourceCase) {
	for _, s := range splits(t, source, c.Config) {
		want := c.Want[s.ID]
		if len(want) == 0 {
			continue
		}
		first, at := rest(t, source, c.Config, s, nil, (len(want)+1)/2)
		h.Kill()
		second, _ := rest(t, source, c.Config, s, at, 0)
		if got := append(first, second...); !slices.Equal(got, want) {
			t.Errorf("split %s: %d messages before the process was killed and %d after it, want %d in all, the same and in order", s.ID, len(first), len(second), len(want))
		}
	}
}

// killedSink: a plan that one process has written changes nothing when another
// one writes it again.
func killedSink(t *testing.T, h *host.Host, sink connectors.Sink, c conntest.SinkCase) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tp := record.TopicPartition{Topic: "rows"}
	plan := connectors.Plan{Partition: tp, To: 50, Epoch: 1, ID: "acceptance/killed"}
	var b connectors.Batch
	for o := range plan.To {
		b.Messages = append(b.Messages, connectors.Message{Key: fmt.Append(nil, o), Value: fmt.Appendf(nil, `{"id":%d,"name":"row %d"}`, o, o), Timestamp: 1431857103000, Partition: tp, Offset: o})
	}
	write := func() {
		t.Helper()
		w, err := again(ctx, func() (connectors.Writer, error) {
			return sink.Open(ctx, conntest.Task(c.Config), []record.TopicPartition{tp})
		})
		if err != nil {
			t.Fatal(err)
		}
		if refused, err := w.Write(ctx, plan, b); err != nil || len(refused) > 0 {
			t.Fatalf("%v, refused %v", err, refused)
		}
		h.Kill()
		_ = w.Close(ctx)
	}
	write()
	before := c.State(t)
	write()
	if after := c.State(t); after != before {
		t.Errorf("the destination changed from\n%.400s\nto\n%.400s", before, after)
	}
	if rows := c.Rows(t); len(rows) != len(b.Messages) {
		t.Errorf("%d rows, want %d", len(rows), len(b.Messages))
	}
}
