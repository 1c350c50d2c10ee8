package host

import (
	"os"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// BenchmarkRead reads small messages through a process of the sample in Go, as
// the runtime does. The figure in docs/plugins.md is its msg/s.
func BenchmarkRead(b *testing.B) {
	path := conntest.GoPlugin(b, "plugins/samples/counter")
	h, err := Open(b.Context(), []Config{{Name: "counter", Path: path, SHA256: conntest.SHA256(b, path)}}, Options{Getenv: os.LookupEnv})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	s := h.plugins[0].sources["counter"]
	cfg := conntest.Config(b, s.Spec(), map[string]any{"count": max(b.N, 1)})
	r, err := s.Open(b.Context(), conntest.Task(cfg), connectors.Split{ID: "part-0"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close(b.Context()) }()
	b.ResetTimer()
	for n := 0; n < b.N; {
		batch, err := r.Read(b.Context(), connectors.Limits{Records: 1000, Bytes: 1 << 20, Wait: longestWait})
		if err != nil {
			b.Fatal(err)
		}
		n += len(batch.Messages)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
