package record

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestMurmur2 has the vectors of Kafka's own UtilsTest.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

func TestPartitionAgreesWithClient(t *testing.T) {
	client := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "key")...)
		n := rapid.Int32Range(1, 1<<20).Draw(t, "partitions")
		if got, want := PartitionForKey(key, n), client.Partition(&kgo.Record{Key: key}, int(n)); int(got) != want {
			t.Fatalf("%x over %d: %d, want %d", key, n, got, want)
		}
	})
}
