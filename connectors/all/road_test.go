package all_test

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/all"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/format"
	"github.com/entrepot-hub/entrepot/record"
)

const realLog = "../../../shared/data/access-2015.log"

// TestRealLogToParquet takes every real line through the file source, the
// combined parser and the files sink, in plans of 900 records over six
// partitions, and has DuckDB count what came out by folder. The count to
// compare with is made by cutting the hour out of each line's text.
func TestRealLogToParquet(t *testing.T) {
	want := hoursOf(t)
	root := t.TempDir()
	load(t, root, read(t))
	got := conntest.DuckDB(t, fmt.Sprintf("SELECT dt || ' ' || hr, count(*) FROM read_parquet('%s/**/*.parquet', hive_partitioning=true, hive_types={'dt': VARCHAR, 'hr': VARCHAR}) GROUP BY 1 ORDER BY 1", root))
	var lines []string
	for _, hour := range slices.Sorted(maps.Keys(want)) {
		lines = append(lines, fmt.Sprintf("%s|%d", hour, want[hour]))
	}
	if got != strings.Join(lines, "\n") {
		t.Errorf("DuckDB counts\n%s\nthe log has\n%s", got, strings.Join(lines, "\n"))
	}
	if len(want) != 84 {
		t.Errorf("%d hours, want 84", len(want))
	}
	total := conntest.DuckDB(t, fmt.Sprintf("SELECT count(*), count(DISTINCT (_partition, _offset)), sum(bytes), count(*) FILTER (status = 404), min(ts)::VARCHAR, typeof(any_value(ts)) FROM read_parquet('%s/**/*.parquet')", root))
	if total != "10000|10000|2747282740|213|2015-05-17 10:05:00+00|TIMESTAMP WITH TIME ZONE" {
		t.Errorf("DuckDB sums up %s", total)
	}
}

// hoursOf counts the lines of each hour as the log spells it: "2015-05-17 10".
func hoursOf(t *testing.T) map[string]int {
	f, err := os.Open(realLog)
	if err != nil {
		t.Skipf("SKIPPED: THE REAL ACCESS LOG IS NOT HERE: %v", err)
	}
	defer f.Close()
	hours := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		_, after, _ := strings.Cut(s.Text(), "[")
		hours[after[7:11]+"-05-"+after[:2]+" "+after[12:14]]++
	}
	return hours
}

func read(t *testing.T) []connectors.Message {
	src, err := all.Builtin().Source("file")
	if err != nil {
		t.Fatal(err)
	}
	cfg := conntest.Config(t, src.Spec(), map[string]any{"path": realLog, "follow": false})
	r, err := src.Open(t.Context(), conntest.Task(cfg), connectors.Split{ID: realLog}, nil)
	if err != nil {
		t.Fatal(err)
	}
	parse, err := connectors.NewConfig(format.ParserFields(), map[string]any{"format": "combined"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.NewParser(parse)
	if err != nil {
		t.Fatal(err)
	}
	var out []connectors.Message
	for {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Messages {
			if err := p.Parse(&b.Messages[i]); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, b.Messages...)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

func load(t *testing.T, root string, messages []connectors.Message) {
	sink, err := all.Builtin().Sink("files")
	if err != nil {
		t.Fatal(err)
	}
	cfg := conntest.Config(t, sink.Spec(), map[string]any{
		"url": "file://" + filepath.ToSlash(root), "partition_by": "dt={date(ts)}/hr={hour(ts)}",
		"schema": "combined", "metadata_columns": []string{"partition", "offset"},
	})
	waiting := make([]connectors.Batch, 6)
	next := make([]int64, len(waiting))
	w, err := sink.Open(t.Context(), conntest.Task(cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	flush := func(p int) {
		n := int64(len(waiting[p].Messages))
		plan := connectors.Plan{Partition: record.TopicPartition{Topic: "clicks", Partition: int32(p)}, From: next[p] - n, To: next[p], Epoch: 1}
		if refused, err := w.Write(t.Context(), plan, waiting[p]); err != nil || len(refused) > 0 {
			t.Fatalf("%s: %v %v", plan, refused, err)
		}
		waiting[p] = connectors.Batch{}
	}
	for _, m := range messages {
		h := fnv.New32a()
		_, _ = h.Write(m.Original[:strings.IndexByte(string(m.Original), ' ')])
		p := int(h.Sum32() % uint32(len(waiting)))
		m.Partition, m.Offset = record.TopicPartition{Topic: "clicks", Partition: int32(p)}, next[p]
		next[p]++
		if waiting[p].Messages = append(waiting[p].Messages, m); len(waiting[p].Messages) == 900 {
			flush(p)
		}
	}
	for p := range waiting {
		flush(p)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
