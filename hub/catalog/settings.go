package catalog

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Settings are a topic's settings as values, defaults filled in: what the rest
// of the hub reads, so that nobody else parses them.
type Settings struct {
	Delete, Compact bool          // cleanup.policy
	DeleteRetention time.Duration // of tombstones
	MinLag, MaxLag  time.Duration // {min,max}.compaction.lag.ms
	DirtyRatio      float64       // min.cleanable.dirty.ratio
	Retention       time.Duration // -1: no limit
	RetentionBytes  int64         // -1: no limit
	SegmentBytes    int64
	SegmentAge      time.Duration
	MaxMessageBytes int
	LogAppendTime   bool
	MaxPast         time.Duration // message.timestamp.before.max.ms
	MaxFuture       time.Duration // message.timestamp.after.max.ms
	Recompress      bool          // compression.type is not producer
	Codec           record.Codec  // with Recompress
	Replicated      bool          // durability=replicated
	MirrorTo        []string      // sites, or "*"
	MinInsync       int
}

// Settings are the topic's configuration, which Apply has checked. Nothing in
// them may be changed.
func (t *Topic) Settings() Settings {
	if t.settings != nil {
		return *t.settings
	}
	return t.readSettings()
}

func (t *Topic) readSettings() Settings {
	codec, err := record.ParseCodec(t.Value(KeyCompression)) // producer is none
	policy := splitList(t.Value(KeyCleanupPolicy))
	return Settings{
		Delete:          slices.Contains(policy, "delete"),
		Compact:         slices.Contains(policy, "compact"),
		DeleteRetention: milliseconds(t.int(KeyDeleteRetain)),
		MinLag:          milliseconds(t.int(KeyMinLag)),
		MaxLag:          milliseconds(t.int(KeyMaxLag)),
		DirtyRatio:      t.float(KeyDirtyRatio),
		Retention:       milliseconds(t.int(KeyRetentionMS)),
		RetentionBytes:  t.int(KeyRetentionBytes),
		SegmentBytes:    t.int(KeySegmentBytes),
		SegmentAge:      milliseconds(t.int(KeySegmentMS)),
		MaxMessageBytes: int(t.int(KeyMaxMessage)),
		MaxPast:         milliseconds(t.int(KeyMaxPast)),
		MaxFuture:       milliseconds(t.int(KeyMaxFuture)),
		Recompress:      err == nil,
		Codec:           codec,
		LogAppendTime:   t.Value(KeyTimestampType) == LogAppendTime,
		Replicated:      t.Value(KeyDurability) == DurabilityReplicated,
		MirrorTo:        splitList(t.Value(KeyMirrorTo)),
		MinInsync:       int(t.int(KeyMinInsync)),
	}
}

// Value is the value of a setting, or its default; empty for an unknown name.
func (t *Topic) Value(key string) string {
	if v, ok := t.Config[key]; ok {
		return v
	}
	k, err := lookupKey(key)
	if err != nil {
		return ""
	}
	return k.Default
}

// int reads a whole number that Apply has checked.
func (t *Topic) int(key string) int64 {
	n, err := strconv.ParseInt(t.Value(key), 10, 64)
	if err != nil {
		panic("catalog: " + key + " of " + t.Name + " is no number though it was checked: " + err.Error())
	}
	return n
}

// float reads a number that Apply has checked.
func (t *Topic) float(key string) float64 {
	f, err := strconv.ParseFloat(t.Value(key), 64)
	if err != nil {
		panic("catalog: " + key + " of " + t.Name + " is no number though it was checked: " + err.Error())
	}
	return f
}

// milliseconds makes a duration; -1 stays -1, and what a duration cannot hold
// (292 years) becomes the longest one.
func milliseconds(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	switch {
	case ms < 0:
		return -1
	case ms > most:
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(ms) * time.Millisecond
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
