package clickhouse

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSinkKeepsTheContract(t *testing.T) {
	conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
		r := newRig(t)
		return conntest.SinkCase{
			Config: r.config(rowFields()),
			Rows:   func(*testing.T) []int64 { return r.numbers("SELECT id FROM rows") },
			State: func(*testing.T) string {
				return r.text("SELECT toString(groupArray((id, name, _topic, _partition, _offset))) FROM (SELECT * FROM rows ORDER BY _topic, _partition, _offset)")
			},
		}
	})
}
