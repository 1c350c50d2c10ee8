package catalog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/record"
)

// The names of topic settings that the hub itself reads.
const (
	KeyCleanupPolicy  = "cleanup.policy"
	KeyCompression    = "compression.type"
	KeyDeleteRetain   = "delete.retention.ms"
	KeyDurability     = "durability"
	KeyDirtyRatio     = "min.cleanable.dirty.ratio"
	KeyMaxLag         = "max.compaction.lag.ms"
	KeyMaxFuture      = "message.timestamp.after.max.ms"
	KeyMaxPast        = "message.timestamp.before.max.ms"
	KeyMinLag         = "min.compaction.lag.ms"
	KeyMaxMessage     = "max.message.bytes"
	KeyMinInsync      = "min.insync.replicas"
	KeyMirrorTo       = "mirror.to"
	KeyRetentionBytes = "retention.bytes"
	KeyRetentionMS    = "retention.ms"
	KeySegmentBytes   = "segment.bytes"
	KeySegmentMS      = "segment.ms"
	KeyTimestampType  = "message.timestamp.type"
)

// The values of KeyDurability and KeyTimestampType.
const (
	DurabilitySynced     = "synced"
	DurabilityReplicated = "replicated"
	CreateTime           = "CreateTime"
	LogAppendTime        = "LogAppendTime"
)

// Type is the type of a setting as DescribeConfigs names it, by Kafka's number.
type Type int8

// The types in use (ConfigDef.Type in Kafka's DescribeConfigs).
const (
	TypeBoolean Type = 1
	TypeString  Type = 2
	TypeInt     Type = 3
	TypeLong    Type = 5
	TypeDouble  Type = 6
	TypeList    Type = 7
)

// Key describes one topic setting.
type Key struct {
	Name    string
	Type    Type
	Default string
	Doc     string
	// Inert settings are taken so that tools which send them work, and kept;
	// Doc says why they have no effect here.
	Inert bool

	check func(value string) error // nil: any text
}

// keys is the one table of topic settings, by name. Names, types, bounds and
// defaults are Kafka's where Kafka has the setting; ours are the rest.
var keys = []Key{
	{KeyCleanupPolicy, TypeList, "delete", "What happens to old records: delete (by retention), compact (the last of each key is kept), or both.", false, listOf("delete", "compact")},
	{"compression.gzip.level", TypeInt, "-1", "No effect: each codec has one level.", true, gzipLevel},
	{"compression.lz4.level", TypeInt, "9", "No effect: each codec has one level.", true, whole(1, 17)},
	{KeyCompression, TypeString, "producer", "producer keeps batches as the client compressed them. Any other codec is what the hub compresses a batch with that came with another one, which costs it time.", false, oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")},
	{"compression.zstd.level", TypeInt, "3", "No effect: each codec has one level.", true, whole(-131072, 22)},
	{KeyDeleteRetain, TypeLong, "86400000", "How long, in ms, a tombstone of a compacted topic is kept.", false, whole(0, math.MaxInt64)},
	{KeyDurability, TypeString, DurabilitySynced, "synced: an acknowledged record is on the disks of a majority. replicated: a majority has written it and syncs within 100 ms; a power cut at several nodes at once can lose it.", false, oneOf(DurabilitySynced, DurabilityReplicated)},
	{"file.delete.delay.ms", TypeLong, "60000", "No effect: readers keep what they read, files are deleted at once.", true, whole(0, math.MaxInt64)},
	{"flush.messages", TypeLong, "9223372036854775807", "No effect: see durability.", true, whole(1, math.MaxInt64)},
	{"flush.ms", TypeLong, "9223372036854775807", "No effect: see durability.", true, whole(0, math.MaxInt64)},
	{"follower.replication.throttled.replicas", TypeList, "", "No effect: replication is not throttled.", true, throttled},
	{"index.interval.bytes", TypeInt, "4096", "No effect: every batch is in the index of its segment.", true, whole(0, math.MaxInt32)},
	{"leader.replication.throttled.replicas", TypeList, "", "No effect: replication is not throttled.", true, throttled},
	{"local.retention.bytes", TypeLong, "-2", "No effect: there is no tiered storage.", true, whole(-2, math.MaxInt64)},
	{"local.retention.ms", TypeLong, "-2", "No effect: there is no tiered storage.", true, whole(-2, math.MaxInt64)},
	{KeyMaxLag, TypeLong, "9223372036854775807", "The longest time, in ms, that a record stays out of reach of compaction.", false, whole(1, math.MaxInt64)},
	{KeyMaxMessage, TypeInt, "1048588", "The largest batch a producer may send, in bytes.", false, whole(0, math.MaxInt32)},
	{KeyMaxFuture, TypeLong, "9223372036854775807", "How far, in ms, a record's timestamp may lie ahead of the leader's clock; a batch with one beyond is refused. With CreateTime alone. Kafka 4 has one hour by default; here nothing is refused unless it is asked for.", false, whole(0, math.MaxInt64)},
	{KeyMaxPast, TypeLong, "9223372036854775807", "How far, in ms, a record's timestamp may lie behind the leader's clock; a batch with one beyond is refused. With CreateTime alone.", false, whole(0, math.MaxInt64)},
	{KeyTimestampType, TypeString, CreateTime, "CreateTime: timestamps are the producer's. LogAppendTime: the leader stamps each batch.", false, oneOf(CreateTime, LogAppendTime)},
	{KeyDirtyRatio, TypeDouble, "0.5", "The share of a log that is not compacted yet at which compaction begins.", false, ratio},
	{KeyMinLag, TypeLong, "0", "The shortest time, in ms, that a record stays out of reach of compaction.", false, whole(0, math.MaxInt64)},
	{KeyMinInsync, TypeInt, "1", "How many replicas shall have a write with acks=all. It is kept and shown, and has no effect: a majority of the replicas always has what is acknowledged, and more are not waited for.", false, whole(1, math.MaxInt32)},
	{KeyMirrorTo, TypeList, "", "The sites that mirror this topic, or * for all of the mesh.", false, sites},
	{"preallocate", TypeBoolean, "false", "No effect: segments grow as they are written.", true, oneOf("true", "false")},
	{"remote.storage.enable", TypeBoolean, "false", "No effect: there is no tiered storage, so it cannot be enabled.", true, oneOf("false")},
	{KeyRetentionBytes, TypeLong, "-1", "The size, in bytes, above which a partition's oldest segments are deleted; -1 for no limit.", false, whole(-1, math.MaxInt64)},
	{KeyRetentionMS, TypeLong, "604800000", "The age, in ms, above which a partition's segments are deleted; -1 for no limit.", false, whole(-1, math.MaxInt64)},
	{KeySegmentBytes, TypeInt, "134217728", "The size, in bytes, at which a partition begins a new segment; at least 1 MiB (KIP-1030).", false, whole(1<<20, math.MaxInt32)},
	{"segment.index.bytes", TypeInt, "10485760", "No effect: an index is as long as its segment needs.", true, whole(4, math.MaxInt32)},
	{"segment.jitter.ms", TypeLong, "0", "No effect: segments roll on their own age.", true, whole(0, math.MaxInt64)},
	{KeySegmentMS, TypeLong, "604800000", "The age, in ms, at which a partition begins a new segment.", false, whole(1, math.MaxInt64)},
	{"unclean.leader.election.enable", TypeBoolean, "false", "No effect: a leader always has every acknowledged record.", true, oneOf("true", "false")},
}

// Keys are all topic settings by name. The caller owns the slice.
func Keys() []Key { return slices.Clone(keys) }

// LookupKey finds a setting by its name. The error wraps
// record.ErrInvalidConfig and names the nearest setting there is.
func LookupKey(name string) (Key, error) {
	k, err := lookupKey(name)
	if err != nil {
		return Key{}, err
	}
	return *k, nil
}

func lookupKey(name string) (*Key, error) {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i], nil
		}
	}
	best, least := "", math.MaxInt
	for i := range keys {
		if d := distance(name, keys[i].Name); d < least {
			best, least = keys[i].Name, d
		}
	}
	return nil, fmt.Errorf("%w: unknown topic config name %q; the nearest known one is %s", record.ErrInvalidConfig, shorten(name), best)
}

// CheckConfig verifies the settings of one topic, in the order of their names,
// so that every node finds the same first error, which wraps
// record.ErrInvalidConfig.
func CheckConfig(config map[string]string) error {
	for _, name := range sortedKeys(config) {
		k, err := lookupKey(name)
		if err != nil {
			return err
		}
		if err := k.Check(config[name]); err != nil {
			return err
		}
	}
	return checkTogether(config)
}

// checkTogether verifies what settings demand of each other; each by itself
// has been checked.
func checkTogether(config map[string]string) error {
	t := Topic{Config: config}
	if least, most := t.int(KeyMinLag), t.int(KeyMaxLag); least > most {
		return fmt.Errorf("%w: %s is %d, above %s, which is %d", record.ErrInvalidConfig, KeyMinLag, least, KeyMaxLag, most)
	}
	return nil
}

// Check verifies one value. The error wraps record.ErrInvalidConfig.
func (k Key) Check(value string) error {
	if k.check == nil {
		return nil
	}
	if err := k.check(value); err != nil {
		return fmt.Errorf("%w: %s cannot be %q: %w", record.ErrInvalidConfig, k.Name, shorten(value), err)
	}
	return nil
}

func whole(least, most int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		return nil
	}
}

func gzipLevel(v string) error {
	if v == "-1" {
		return nil
	}
	return whole(1, 9)(v)
}

// throttled takes Kafka's lists of partition:replica, or *.
func throttled(v string) error {
	for _, w := range splitList(v) {
		p, r, ok := strings.Cut(w, ":")
		if w != "*" && (!ok || whole(0, math.MaxInt32)(p) != nil || whole(0, math.MaxInt32)(r) != nil) {
			return errors.New("want a list of partition:replica, or *")
		}
	}
	return nil
}

func ratio(v string) error {
	if f, err := strconv.ParseFloat(v, 64); err != nil || !(f >= 0 && f <= 1) {
		return errors.New("want a number from 0 to 1")
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("want one of %s", strings.Join(words, ", "))
		}
		return nil
	}
}

func listOf(words ...string) func(string) error {
	return func(v string) error {
		for _, w := range splitList(v) {
			if !slices.Contains(words, w) {
				return fmt.Errorf("want a list of %s", strings.Join(words, ", "))
			}
		}
		return nil
	}
}

func sites(v string) error {
	list := splitList(v)
	for i, s := range list {
		if !utf8.ValidString(s) || checkName("site", s) != nil {
			return errors.New("want names of sites with commas between them, or *")
		}
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("site %s is named twice", s)
		}
	}
	return nil
}

// splitList cuts a list setting at its commas; spaces around names and empty
// names do not count.
func splitList(v string) []string {
	var list []string
	for w := range strings.SplitSeq(v, ",") {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}

// distance is the number of single-character edits between a and b
// (Levenshtein).
func distance(a, b string) int {
	if a = shorten(a); a == "" {
		return len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// shorten bounds what a client sent before it is repeated in a message.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
