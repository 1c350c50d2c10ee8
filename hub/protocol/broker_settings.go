package protocol

import (
	"strconv"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// brokerSettings are this node's own settings under the names that Kafka has
// for them: tools look some of them up.
func (s *Server) brokerSettings() []setting {
	c, l, g := &s.cfg, &s.cfg.Limits, &s.cfg.Group
	var all []setting
	number := func(name string, v int64, kind catalog.Type, doc string) {
		all = append(all, setting{name: name, value: strconv.FormatInt(v, 10), set: true, kind: kind, doc: doc, broker: true})
	}
	all = append(all, setting{
		name: "auto.create.topics.enable", value: strconv.FormatBool(c.AutoCreate), set: true, kind: catalog.TypeBoolean,
		doc: "Whether clients create topics by asking for them.", broker: true,
	})
	number("broker.id", int64(c.Node), catalog.TypeInt, "This node's number.")
	number("connections.max.idle.ms", l.Idle.Milliseconds(), catalog.TypeLong, "A connection without a request for as long is closed.")
	number("default.replication.factor", int64(c.Replicas), catalog.TypeInt, "Replicas of topics created without a number.")
	number("fetch.max.bytes", int64(l.Fetch), catalog.TypeInt, "The largest answer to a fetch, in bytes; one batch is always returned.")
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
	for _, k := range [...]struct{ broker, topic string }{
		{"compression.type", catalog.KeyCompression}, {"log.cleanup.policy", catalog.KeyCleanupPolicy},
		{"log.retention.bytes", catalog.KeyRetentionBytes}, {"log.retention.ms", catalog.KeyRetentionMS},
		{"log.segment.bytes", catalog.KeySegmentBytes}, {"message.max.bytes", catalog.KeyMaxMessage},
		{"min.insync.replicas", catalog.KeyMinInsync},
	} {
		if key, err := catalog.LookupKey(k.topic); err == nil {
			all = append(all, setting{name: k.broker, value: key.Default, kind: key.Type, doc: "The default of topics: " + key.Doc, broker: true})
		}
	}
	return all
}
