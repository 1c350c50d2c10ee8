package httpcollector

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/entrepot-hub/entrepot/connectors"
)

// splitID is the one split: a collector has no parts.
const splitID = "events"

// Splits implements connectors.Source.
func (Source) Splits(context.Context, connectors.Config) (<-chan []connectors.Split, error) {
	out := make(chan []connectors.Split, 1)
	out <- []connectors.Split{{ID: splitID}}
	close(out)
	return out, nil
}

// Dedup implements connectors.Queue.
func (Source) Dedup(cfg connectors.Config) connectors.Window {
	return connectors.Window{IDs: int(cfg.Int("dedup_window")), Age: cfg.Duration("dedup_age")}
}

// Pace implements connectors.Paced: clients wait for the commit.
func (Source) Pace(cfg connectors.Config) connectors.Limits {
	return connectors.Limits{Wait: cfg.Duration("group_commit")}
}

// Open implements connectors.Source. The address is open when it returns.
func (Source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	number, err := decodePosition(from)
	if err != nil {
		return nil, err
	}
	s := settingsOf(task.Config)
	for _, one := range s.sites {
		if !one.secret.IsSet() {
			continue
		}
		if one.token, err = one.secret.Reveal(); err != nil {
			return nil, connectors.Fatalf("token of site %s: %w", one.name, err)
		}
		if one.token == "" {
			return nil, connectors.Fatalf("token of site %s is empty", one.name)
		}
	}
	r := &reader{intake: newIntake(number, s.limits.inFlight)}
	r.server, err = listen(ctx, s, task, r.intake)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// positionOf makes a position of a message's number.
func positionOf(n uint64) connectors.Position {
	return binary.BigEndian.AppendUint64(nil, n)
}

func decodePosition(p connectors.Position) (uint64, error) {
	switch len(p) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(p), nil
	}
	return 0, connectors.Fatal(fmt.Errorf("position %x is not one of this source: %d bytes, want 8", []byte(p), len(p)))
}

// reader is what the runtime has of the server.
type reader struct {
	*intake
	server *server
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	if err := r.server.failed(); err != nil {
		return connectors.Batch{}, err
	}
	return r.read(ctx, limits)
}

// Committed implements connectors.Reader: it lets the clients go whose events
// are in.
func (r *reader) Committed(_ context.Context, upTo connectors.Position) error {
	n, err := decodePosition(upTo)
	if err != nil {
		return err
	}
	r.committed(n)
	return nil
}

// Close implements connectors.Reader. Who still waits gets 503, for nobody
// will know whether what it sent is in the hub.
func (r *reader) Close(ctx context.Context) error {
	r.intake.close()
	return r.server.close(ctx)
}
