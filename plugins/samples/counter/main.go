// Command counter is a sample plugin in Go: a source that counts. It has what
// every source needs: splits, positions that survive a restart, an end, and
// reading that waits with its context.
//
// Goroutines: none of its own.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/plugins/sdk"
)

func main() {
	sdk.Serve(sdk.Plugin{Name: "counter", Version: "1.0.0", Sources: []connectors.Source{Counter{}}})
}

// Counter is the source "counter".
type Counter struct{}

// Spec implements connectors.Source.
func (Counter) Spec() connectors.Spec {
	return connectors.Spec{
		Type:      "counter",
		Summary:   "Counts: a record for each number, in one split or several.",
		Guarantee: "exactly-once into the hub (the number is the position)",
		Since:     "1.0.0",
		Fields: []connectors.Field{
			{Name: "count", Kind: connectors.KindInt, Required: true, Min: 1, Max: 1 << 40, Example: "1000",
				Description: "How many records each split has."},
			{Name: "splits", Kind: connectors.KindInt, Default: int64(1), Min: 1, Max: 100, Example: "4",
				Description: "How many splits there are, which are read at the same time."},
			{Name: "follow", Kind: connectors.KindBool, Default: false, Example: "true",
				Description: "Wait for more at the end. Nothing more comes: it is for tests."},
		},
	}
}

// Validate implements connectors.Source.
func (Counter) Validate(context.Context, connectors.Config, connectors.Probe) []connectors.Finding {
	return nil
}

// Splits implements connectors.Source: the list is final.
func (Counter) Splits(_ context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	var all []connectors.Split
	for i := range cfg.Int("splits") {
		all = append(all, connectors.Split{ID: fmt.Sprintf("part-%d", i)})
	}
	lists := make(chan []connectors.Split, 1)
	lists <- all
	close(lists)
	return lists, nil
}

// Open implements connectors.Source.
func (Counter) Open(_ context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r := &reader{split: split.ID, end: task.Config.Int("count"), follow: task.Config.Bool("follow")}
	switch len(from) {
	case 0:
	case 8:
		r.next = int64(binary.BigEndian.Uint64(from)) + 1
	default:
		return nil, connectors.Fatalf("%s: position %x is not one of this source, want 8 bytes", split.ID, from)
	}
	return r, nil
}

type reader struct {
	split     string
	next, end int64
	follow    bool
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	var b connectors.Batch
	for bytes := 0; r.next < r.end; r.next++ {
		value := fmt.Appendf(nil, `{"split":%q,"n":%d}`, r.split, r.next)
		full := limits.Records > 0 && len(b.Messages) == limits.Records || limits.Bytes > 0 && bytes+len(value) > limits.Bytes
		if full && len(b.Messages) > 0 {
			return b, nil
		}
		bytes += len(value)
		b.Messages = append(b.Messages, connectors.Message{
			Value: value, Original: value, Timestamp: time.Now().UnixMilli(),
			Position: binary.BigEndian.AppendUint64(nil, uint64(r.next)), // as they count up, so do their bytes
			Origin:   connectors.Origin{Name: r.split, Line: r.next + 1},
		})
	}
	switch {
	case len(b.Messages) > 0:
		return b, nil
	case !r.follow:
		return b, io.EOF
	case limits.Wait > 0:
		if err := connectors.Pause(ctx, limits.Wait); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Committed implements connectors.Reader: there is nothing to be forgotten.
func (r *reader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *reader) Close(context.Context) error { return nil }
