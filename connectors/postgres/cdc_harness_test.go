package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// cdcRig is a database to follow. Its slots go before it does.
type cdcRig struct {
	*rig
	fields map[string]any
}

// newCDC makes a database with these tables, to be followed in full.
func newCDC(t testing.TB, more map[string]any, statements ...string) *cdcRig {
	t.Helper()
	return cdcAt(newRig(t), more, statements...)
}

func cdcAt(r *rig, more map[string]any, statements ...string) *cdcRig {
	r.t.Helper()
	r.exec(statements...)
	// A slot's name is unique in the server, which other tests use too.
	slot := r.text("SELECT 'slot_' || current_database()")
	c := &cdcRig{rig: r, fields: with(map[string]any{"dsn": r.dsn, "slot": slot, "publication": "everything", "meta": []string{"op"}}, more)}
	if c.fields["tables"] == nil {
		r.exec("CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)")
	}
	r.t.Cleanup(func() {
		await(r.t, func() bool {
			_, err := r.db.Exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
			return err == nil
		})
	})
	return c
}

func (c *cdcRig) config() connectors.Config {
	c.t.Helper()
	return conntest.Config(c.t, CDC{}.Spec(), c.fields)
}

func (c *cdcRig) open(from connectors.Position) (connectors.Reader, error) {
	c.t.Helper()
	r, err := CDC{}.Open(c.t.Context(), conntest.Task(c.config()), connectors.Split{ID: "slot"}, from)
	if err == nil {
		c.t.Cleanup(func() { _ = r.Close(context.Background()) })
	}
	return r, err
}

func (c *cdcRig) reader(from connectors.Position) connectors.Reader {
	c.t.Helper()
	r, err := c.open(from)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// next reads n records; marks are left out.
func next(t testing.TB, r connectors.Reader, n int) []connectors.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []connectors.Message
	for len(all) < n {
		b, err := r.Read(ctx, connectors.Limits{Records: 1000, Wait: time.Second})
		if err != nil && (!errors.Is(err, io.EOF) || len(all) < n) {
			t.Fatalf("after %d of %d records (%q): %v", len(all), n, texts(all), err)
		}
		for _, m := range b.Messages {
			if !m.Mark {
				all = append(all, m)
			} else if p, err := placeOf(m.Position); err == nil && !p.streaming {
				if err := r.Committed(ctx, m.Position); err != nil { // no row comes before that
					t.Fatal(err)
				}
			}
		}
	}
	if len(all) > n {
		t.Fatalf("%d records, want %d: %q", len(all), n, texts(all))
	}
	return all
}

// rowsThere reads the n rows that were there, and to the end of them.
func rowsThere(t testing.TB, r connectors.Reader, n int) []connectors.Message {
	t.Helper()
	all := next(t, r, n)
	if n == 0 {
		return all
	}
	b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Minute})
	if err != nil || len(b.Messages) != 1 || !b.Messages[0].Mark {
		t.Fatalf("after the rows came %q, %v, want their end", texts(b.Messages), err)
	}
	return all
}

// texts are records as key=value; an error is shown in place of the value.
func texts(all []connectors.Message) []string {
	out := make([]string, len(all))
	for i, m := range all {
		switch {
		case m.Err != nil:
			out[i] = "!" + m.Err.Error()
		case m.Value == nil:
			out[i] = fmt.Sprintf("%s=", m.Key)
		default:
			out[i] = fmt.Sprintf("%s=%s", m.Key, m.Value)
		}
	}
	return out
}

func wantTexts(t testing.TB, got []connectors.Message, want ...string) {
	t.Helper()
	if g, w := strings.Join(texts(got), "\n"), strings.Join(want, "\n"); g != w {
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}
