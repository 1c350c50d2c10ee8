package protocol

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// brokerSettings are this node's own settings under the names that Kafka has
// for them: tools look some of them up.
func (s *Server) brokerSettings() []setting {
	c, l, g := &s.cfg, &s.cfg.Limits, &s.cfg.Group
	var all []setting
	number := func(name string, v int64, kind catalog.Type, doc string) {
		all = append(all, setting{name: name, value: strconv.FormatInt(v, 10), set: true, kind: kind, doc: doc, broker: true, from: kmsg.ConfigSourceStaticBrokerConfig})
	}
	all = append(all, setting{
		name: "auto.create.topics.enable", value: strconv.FormatBool(c.AutoCreate), set: true, kind: catalog.TypeBoolean,
		doc: "Whether clients create topics by asking for them.", broker: true, from: kmsg.ConfigSourceStaticBrokerConfig,
	})
	number("broker.id", int64(c.Node), catalog.TypeInt, "This node's number.")
	number("connections.max.idle.ms", l.Idle.Milliseconds(), catalog.TypeLong, "A connection without a request for as long is closed.")
	number("default.replication.factor", int64(s.defaultReplicas()), catalog.TypeInt, "Replicas of topics created without a number.")
	number("fetch.max.bytes", int64(l.Fetch), catalog.TypeInt, "The largest answer to a fetch, in bytes; one batch is always returned.")
	number("group.consumer.heartbeat.interval.ms", g.Consumer.Interval.Milliseconds(), catalog.TypeInt, "How often members of the consumer protocol are heard.")
	number("group.consumer.max.heartbeat.interval.ms", g.Bounds.Max.Interval.Milliseconds(), catalog.TypeInt, "The longest heartbeat interval that can be set for a group.")
	number("group.consumer.max.session.timeout.ms", g.Bounds.Max.Session.Milliseconds(), catalog.TypeInt, "The longest session timeout that can be set for a group.")
	all = append(all, setting{
		name: "group.consumer.migration.policy", value: string(g.Migration), set: true, kind: catalog.TypeString,
		doc: "Which groups with members may change their protocol.", broker: true, from: kmsg.ConfigSourceStaticBrokerConfig,
	})
	number("group.consumer.min.heartbeat.interval.ms", g.Bounds.Min.Interval.Milliseconds(), catalog.TypeInt, "The shortest heartbeat interval that can be set for a group.")
	number("group.consumer.min.session.timeout.ms", g.Bounds.Min.Session.Milliseconds(), catalog.TypeInt, "The shortest session timeout that can be set for a group.")
	number("group.consumer.session.timeout.ms", g.Consumer.Session.Milliseconds(), catalog.TypeInt, "A member of the consumer protocol that is not heard for as long is out.")
	number("group.initial.rebalance.delay.ms", g.InitialDelay.Milliseconds(), catalog.TypeInt, "How long the first rebalance of an empty group waits for more members.")
	number("group.max.session.timeout.ms", g.MaxSession.Milliseconds(), catalog.TypeInt, "The longest session timeout that a group member may ask for.")
	number("group.max.size", int64(g.MaxMembers), catalog.TypeInt, "The most members of a group.")
	number("group.min.session.timeout.ms", g.MinSession.Milliseconds(), catalog.TypeInt, "The shortest session timeout that a group member may ask for.")
	number("max.connections", int64(l.Conns), catalog.TypeInt, "Open connections; more are closed at once.")
	number("max.connections.per.ip", int64(l.ConnsPerIP), catalog.TypeInt, "Open connections from one address.")
	number("num.partitions", int64(c.Partitions), catalog.TypeInt, "Partitions of topics created without a number.")
	number("offset.metadata.max.bytes", int64(g.MaxMetadata), catalog.TypeInt, "The most metadata with a committed offset, in bytes.")
	number("offsets.retention.minutes", int64(g.Retention.Minutes()), catalog.TypeInt, "How long offsets outlive the last member of their group.")
	number("offsets.topic.num.partitions", int64(c.OffsetsPartitions), catalog.TypeInt, "Partitions of __consumer_offsets when it is created.")
	number("socket.request.max.bytes", int64(l.Request), catalog.TypeInt, "The largest request, in bytes.")
	number("transaction.max.timeout.ms", c.Txn.MaxTimeout.Milliseconds(), catalog.TypeInt, "The longest transaction timeout that a producer may ask for.")
	number("transaction.state.log.num.partitions", int64(c.TransactionsPartitions), catalog.TypeInt, "Partitions of __transaction_state when it is created.")
	number("transactional.id.expiration.ms", c.Txn.Expiration.Milliseconds(), catalog.TypeInt, "How long a transactional ID is remembered that nobody uses.")
	for _, k := range catalog.Keys() {
		if name := brokerName(k.Name); name != k.Name || k.Name == catalog.KeyCompression || k.Name == catalog.KeyMinInsync {
			all = append(all, setting{
				name: name, value: k.Default, kind: k.Type, doc: "The default of topics: " + k.Doc, broker: true, from: kmsg.ConfigSourceDefaultConfig,
			})
		}
	}
	return all
}

// brokerName is what Kafka's brokers call the default of a topic setting; its
// own name where they have no other.
func brokerName(topicSetting string) string {
	switch topicSetting {
	case catalog.KeyMaxMessage:
		return "message.max.bytes"
	case catalog.KeyDeleteRetain, catalog.KeyMaxLag, catalog.KeyMinLag:
		return "log.cleaner." + topicSetting
	case catalog.KeyDirtyRatio:
		return "log.cleaner.min.cleanable.ratio"
	case catalog.KeySegmentMS:
		return "log.roll.ms"
	case "segment.jitter.ms":
		return "log.roll.jitter.ms"
	case "segment.index.bytes":
		return "log.index.size.max.bytes"
	case "file.delete.delay.ms":
		return "log.segment.delete.delay.ms"
	case "flush.messages":
		return "log.flush.interval.messages"
	case "flush.ms":
		return "log.flush.interval.ms"
	case catalog.KeyCleanupPolicy, catalog.KeyMaxFuture, catalog.KeyMaxPast, catalog.KeyTimestampType, catalog.KeyRetentionBytes,
		catalog.KeyRetentionMS, catalog.KeySegmentBytes, "index.interval.bytes", "local.retention.bytes", "local.retention.ms", "preallocate":
		return "log." + topicSetting
	}
	return topicSetting
}

// loggers are the node's loggers as Kafka shows them: one, with one level,
// which is set where the node is started.
func (s *Server) loggers() []setting {
	level := "OFF"
	for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if s.cfg.Logger.Enabled(context.Background(), l) {
			level = l.String()
		}
	}
	return []setting{{
		name: "root", value: level, set: true, fixed: true, kind: catalog.TypeString, from: kmsg.ConfigSourceDynamicBrokerLoggerConfig,
		doc: "The least level that is logged.",
	}}
}

// groupSettings are what can be set of a group: how members of the consumer
// protocol (KIP-848) are heard, for which the node's file has the defaults, and
// what concerns share groups.
func (s *Server) groupSettings(name string) []setting {
	var all []setting
	config := s.meta.State().GroupConfig(name)
	for _, k := range catalog.GroupKeys() {
		one := setting{name: k.Name, value: k.Default, kind: k.Type, doc: k.Doc, from: kmsg.ConfigSourceDefaultConfig, synonym: "group." + k.Name}
		switch k.Name {
		case catalog.GroupSession:
			one.value = inMilliseconds(s.cfg.Group.Consumer.Session)
		case catalog.GroupInterval:
			one.value = inMilliseconds(s.cfg.Group.Consumer.Interval)
		}
		one.fallback = one.value
		if v, ok := config[k.Name]; ok {
			one.value, one.set, one.from = v, true, kmsg.ConfigSourceGroupConfig
		}
		all = append(all, one)
	}
	return all
}

func inMilliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
