package stream

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

const numbersJob = `
connectors:
  - name: numbers
    source: {type: lines}
    transforms:
      - parse: {format: json}
      - filter: value % 10 != 9
    topic: out
    key: string(value % 7)
`

func TestSourceReadsAllOfAFiniteSplit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		src := newFakeSource(true, map[string][]string{"a": append(lines(0, 1000), "not a number", "too long")})
		l := w.start(0, parseOne(t, registry(src, nil), numbersJob))
		s := l.await("numbers", time.Minute, inState(Completed))
		want := Counters{Read: 1002, Produced: 900, Filtered: 100, DeadLetters: 2}
		if s.Counters != want {
			t.Errorf("counted %+v, want %+v", s.Counters, want)
		}
		l.end()
		if src.openNow != 0 || src.committed["a"] != 1001 {
			t.Errorf("%d readers are open, committed %d", src.openNow, src.committed["a"])
		}
		checkNumbers(t, w, 1000)
		letters := w.records("numbers.dlq")
		if len(letters) != 2 || header(letters[0], HeaderDeadWhere) != "a:1001" || header(letters[0], HeaderDeadStep) != "parse" ||
			string(letters[0].Value) != "not a number" || header(letters[1], HeaderDeadReason) != "the line is over the limit" {
			t.Errorf("dead letters: %v", letters)
		}

		// A second life finds that all is done.
		l = w.start(0, parseOne(t, registry(src, nil), numbersJob))
		s = l.await("numbers", time.Minute, inState(Completed))
		if s.Counters != want {
			t.Errorf("after a restart: counted %+v, want %+v", s.Counters, want)
		}
		l.end()
		checkNumbers(t, w, 1000)
	})
}

// TestPinnedRecordsKeepTheirPartition: whatever their key is. One whose
// partition is not there holds the job up, and goes there once it is.
func TestPinnedRecordsKeepTheirPartition(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		src := newFakeSource(true, map[string][]string{"a": lines(0, 30)})
		src.pin = func(n int) int32 { return int32(n+n/7) % 4 }
		l := w.start(0, parseOne(t, registry(src, nil), tailJob+"    key: '\"all the same\"'\n"))
		s := l.await("tail", time.Minute, func(s JobStatus) bool { return s.LastError != "" })
		if want := "a:4 belongs into partition 3 of topic out, which has 3"; !strings.Contains(s.LastError, want) {
			t.Errorf("last error: %s, want %s", s.LastError, want)
		}
		if _, err := w.admin.CreatePartitions(t.Context(), 1, "out"); err != nil {
			t.Fatal(err)
		}
		l.await("tail", time.Hour, inState(Completed))
		l.end()
		records := w.records("out")
		checkOnce(t, records, 30)
		for _, r := range records {
			if n, err := strconv.Atoi(string(r.Value)); err != nil || r.Partition != src.pin(n) {
				t.Errorf("%s is in partition %d, want %d", r.Value, r.Partition, src.pin(n))
			}
		}
	})
}

// checkNumbers asserts that topic out has each number that passes the filter
// exactly once, in order for each key.
func checkNumbers(t *testing.T, w *world, n int) {
	t.Helper()
	last := map[string]int{}
	seen := map[int]bool{}
	for _, r := range w.records("out") {
		v, err := strconv.Atoi(string(r.Value))
		if err != nil || v%10 == 9 || seen[v] {
			t.Errorf("%s-%d@%d: %q is wrong or here twice", r.Topic, r.Partition, r.Offset, r.Value)
		}
		seen[v] = true
		if before, ok := last[string(r.Key)]; ok && before >= v {
			t.Errorf("key %s: %d came after %d", r.Key, v, before)
		}
		last[string(r.Key)] = v
	}
	for v := range n {
		if seen[v] == (v%10 == 9) {
			t.Errorf("%d is missing or not filtered", v)
		}
	}
}
