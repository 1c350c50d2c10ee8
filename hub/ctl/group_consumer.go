package ctl

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// describeConsumers is describeGroup for a group of the consumer protocol
// (KIP-848), which Kafka shows by another API. There is no such group: ok is
// false.
func describeConsumers(ctx context.Context, admin *kadm.Client, name string) (d groupDetail, ok bool, err error) {
	groups, err := admin.DescribeConsumerGroups(ctx, name)
	g := groups[name]
	switch {
	case err != nil:
		return d, false, err
	case errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.State == "Dead":
		return d, false, nil
	case g.Err != nil:
		return d, false, g.Err
	}
	commits, err := admin.FetchOffsets(ctx, name)
	if err != nil {
		return d, false, err
	}
	d = groupDetail{Group: name, State: g.State, Coordinator: g.Coordinator.NodeID, Assignor: g.AssignorName, Members: []memberRow{}, Offsets: []offsetRow{}}
	for _, m := range g.Members {
		row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		d.Members = append(d.Members, row)
		m.Assignment.Each(func(topic string, p int32) {
			// Some brokers tell the ID of a topic here and no name.
			if _, committed := commits.Lookup(topic, p); !committed && topic != "" {
				commits.Add(kadm.OffsetResponse{Offset: kadm.Offset{Topic: topic, Partition: p, At: -1}})
			}
		})
	}
	return d, true, d.addLag(ctx, admin, g, commits)
}

// addLag compares what is committed with the ends of the partitions.
func (d *groupDetail) addLag(ctx context.Context, admin *kadm.Client, g kadm.DescribedConsumerGroup, commits kadm.OffsetResponses) error {
	topics := commits.Partitions().Topics()
	if len(topics) == 0 {
		return nil
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, l := range kadm.CalculateGroupLagWithStartOffsets(kadm.DescribedGroup{State: "Empty"}, commits, starts, ends).Sorted() {
		row := lagRow(l)
		for _, m := range g.Members {
			if m.Assignment.Lookup(l.Topic, l.Partition) {
				row.Member = m.MemberID
			}
		}
		d.Offsets = append(d.Offsets, row)
	}
	return nil
}
