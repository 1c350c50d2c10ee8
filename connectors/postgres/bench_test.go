package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

// benchBatch is records of an access log's size; keys cycle when there are
// fewer of them than records.
func benchBatch(from, records, keys int64) connectors.Batch {
	b := connectors.Batch{Messages: make([]connectors.Message, records)}
	for i := range b.Messages {
		n := from + int64(i)
		b.Messages[i] = connectors.Message{Partition: clicks, Offset: n, Value: fmt.Appendf(nil,
			`{"id":%d,"ts":"2015-05-17T10:05:03Z","method":"GET","path":"/images/%d.png","status":200,"bytes":%d,"ratio":0.%d}`, n*7919%keys, n%1000, n%100000, n%10000+1)}
	}
	return b
}

func benchFields(mode string) map[string]any {
	f := map[string]any{"table": "rows", "mode": mode, "create": true, "columns": []map[string]any{
		{"name": "id", "type": "bigint"},
		{"name": "ts", "type": "timestamptz"},
		{"name": "method", "type": "text"},
		{"name": "path", "type": "text"},
		{"name": "status", "type": "integer"},
		{"name": "bytes", "type": "bigint"},
		{"name": "ratio", "type": "double precision"},
	}}
	if mode == "upsert" {
		f["key"] = []string{"id"}
	}
	return f
}

func BenchmarkWrite(b *testing.B) {
	for _, mode := range []string{"insert", "upsert"} {
		for _, size := range []int64{2000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", mode, size), func(b *testing.B) {
				r := newRig(b)
				w := r.writer(benchFields(mode))
				const keys = 1_000_003
				at := int64(0)
				batch := benchBatch(at, size, keys)
				for b.Loop() {
					if wrong, err := w.Write(b.Context(), planOf(at, at+size, 1), batch); err != nil || wrong != nil {
						b.Fatal(wrong, err)
					}
					at += size
					b.StopTimer()
					batch = benchBatch(at, size, keys)
					b.StartTimer()
				}
				b.ReportMetric(float64(at)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	t := &target{table: "rows"}
	for i, c := range []string{"id:bigint", "ts:timestamp with time zone", "method:text", "path:text", "status:integer", "bytes:bigint", "ratio:double precision"} {
		name, typ, _ := strings.Cut(c, ":")
		t.columns = append(t.columns, column{name: name, path: []string{name}, typ: typeOf(typ, typ, -1, true), key: i == 0})
	}
	t.keys = []int{0}
	batch := benchBatch(0, 2000, 1_000_003)
	b.ReportAllocs()
	for b.Loop() {
		if _, wrong := newEncoder(t).encode(batch.Messages); wrong != nil {
			b.Fatal(wrong)
		}
	}
	b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "rows/s")
}
