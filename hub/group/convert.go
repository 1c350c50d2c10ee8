package group

import "time"

// consumerProtocol is the protocol type of consumers, classic or not.
const consumerProtocol = "consumer"

// A group without members changes its protocol with the first member that
// joins; its offsets stay. While it has members, those of the other protocol
// are refused, as in Kafka with group.consumer.migration.policy=disabled.

// becomeConsumer makes an empty classic group a consumer group. The record of
// the classic one goes with the first write.
func (g *Group) becomeConsumer(now time.Time) {
	g.consumer = newConsumers()
	g.consumer.classic = g.generation > 0
	g.generation, g.protocol, g.leader = 0, "", ""
	g.protocolType = consumerProtocol
	g.enter(now, Empty)
}

// becomeClassic makes an empty consumer group a classic one and removes its
// records. If that fails, those of the classic group come later in the log and
// count.
func (g *Group) becomeClassic(now time.Time, out *Output) {
	tombs := g.consumer.tombs()
	g.consumer, g.protocolType = nil, ""
	g.enter(now, Empty)
	g.write(out, Write{Entries: tombs}, func(time.Time, error, *Output) {})
}
