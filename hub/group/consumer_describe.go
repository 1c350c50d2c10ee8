package group

// ConsumerDescription shows a consumer group (ConsumerGroupDescribe).
type ConsumerDescription struct {
	Epoch       int32
	TargetEpoch int32
	Assignor    string
	Members     []ConsumerMemberDescription // by ID
}

// ConsumerMemberDescription is one member of it.
type ConsumerMemberDescription struct {
	ID string
	ConsumerMember
	Current
	Target Assignment
}

// DescribeConsumer shows a consumer group; of a classic one it shows nothing.
func (g *Group) DescribeConsumer() (d ConsumerDescription) {
	c := g.consumer
	if c == nil {
		return d
	}
	d.Epoch, d.TargetEpoch, d.Assignor = c.epoch, c.target, c.assignorName()
	for _, m := range c.sorted() {
		d.Members = append(d.Members, ConsumerMemberDescription{
			ID: m.id, ConsumerMember: m.ConsumerMember, Current: m.current, Target: m.target,
		})
	}
	return d
}
