package clickhouse

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onServers runs a test on Debian's server of 2018 over the native protocol,
// and on ClickHouse's present engine over HTTP.
func onServers(t *testing.T, test func(t *testing.T, newRig func(testing.TB) *rig)) {
	t.Run("18.16", func(t *testing.T) { test(t, newRig) })
	t.Run("engine of today", func(t *testing.T) { test(t, newEngineRig) })
}

func TestSinkKeepsTheContract(t *testing.T) {
	onServers(t, func(t *testing.T, newRig func(testing.TB) *rig) {
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
	})
}
