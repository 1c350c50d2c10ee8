package group

import "encoding/binary"

// subscribed are the topics that the group's members read. known is false when
// that cannot be told: then any topic may be among them.
func (g *Group) subscribed() (topics map[string]bool, known bool) {
	topics = map[string]bool{}
	if g.consumer != nil {
		for _, m := range g.consumer.byID {
			for _, t := range m.Topics {
				topics[t] = true
			}
		}
		for _, p := range g.consumer.regexes {
			for _, t := range p.Topics {
				topics[t] = true
			}
		}
		return topics, true
	}
	if g.protocolType != consumerProtocol && len(g.members) > 0 {
		return topics, false
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			if !readSubscription(p.Metadata, topics) {
				return topics, false
			}
		}
	}
	return topics, true
}

// readSubscription adds the topics of a classic consumer's metadata: Kafka's
// ConsumerProtocolSubscription, a version and the topics first, in any version.
func readSubscription(b []byte, topics map[string]bool) bool {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	for ; n > 0; n-- {
		if len(b) < 2 {
			return false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		if b = b[2:]; size < 0 || size > len(b) {
			return false
		}
		topics[string(b[:size])] = true
		b = b[size:]
	}
	return n == 0
}
