package postgres

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// resident is the most memory that this process has had, in MiB; 0 where the
// system does not say.
func resident() int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	n, _ := strconv.Atoi(strings.Fields(after + " 0")[0])
	return n >> 10
}

// TestCDCLargeTransaction: one transaction of 5,000,000 rows in full form. It
// comes whole and in order, in memory that does not grow with it, and opened
// in its middle the source goes on there.
func TestCDCLargeTransaction(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		t.Run(fmt.Sprintf("streaming %t", streaming), func(t *testing.T) {
			rows := conntest.Size(100_000, 5_000_000)
			c := newCDC(t, map[string]any{"snapshot": "never", "streaming": streaming}, "CREATE TABLE things (id int PRIMARY KEY, name text)")
			r := c.reader(nil)
			c.exec(fmt.Sprintf("BEGIN; INSERT INTO things SELECT i, 'row ' || i FROM generate_series(1, %d) AS i; SAVEPOINT s; DELETE FROM things; ROLLBACK TO s; COMMIT", rows))
			began := time.Now()
			seen := 0
			for seen < rows {
				b, err := r.Read(t.Context(), connectors.Limits{Records: 1000, Wait: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range b.Messages {
					if m.Mark {
						continue
					}
					seen++
					if want := fmt.Sprintf(`{"id":%d}`, seen); string(m.Key) != want {
						t.Fatalf("record %d has key %s", seen, m.Key)
					}
					if seen == rows/2 {
						defer c.half(m.Position, rows, r)()
					}
				}
			}
			took := time.Since(began)
			conntest.Figures(t, "%d rows of one transaction in %s, %.0f a second; %d MiB resident at most", rows, took.Round(time.Millisecond), float64(rows)/took.Seconds(), resident())
			if m := resident(); m > 512 {
				t.Errorf("%d MiB resident, want at most 512", m)
			}
		})
	}
}

// half returns what opens the source in the middle of the transaction.
func (c *cdcRig) half(at connectors.Position, rows int, before connectors.Reader) func() {
	return func() {
		if err := before.Close(c.t.Context()); err != nil {
			c.t.Error(err)
		}
		r := c.reader(at)
		for n := rows / 2; n < rows; {
			b, err := r.Read(c.t.Context(), connectors.Limits{Records: 1000, Wait: time.Second})
			if err != nil {
				c.t.Error(err)
				return
			}
			for _, m := range b.Messages {
				if n++; !m.Mark && string(m.Key) != fmt.Sprintf(`{"id":%d}`, n) {
					c.t.Errorf("after the middle, record %d has key %s", n, m.Key)
					return
				}
			}
		}
		if err := r.Close(c.t.Context()); err != nil {
			c.t.Error(err)
		}
	}
}
