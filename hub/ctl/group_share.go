package ctl

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// describeShares is describeGroup for a share group (KIP-932): its members share
// partitions, and what is committed is where its records begin that are not done.
// There is no such group: ok is false.
func describeShares(ctx context.Context, admin *kadm.Client, name string) (d groupDetail, ok bool, err error) {
	groups, err := admin.DescribeShareGroups(ctx, name)
	g := groups[name]
	switch {
	case err != nil:
		return d, false, err
	case errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.GroupState == "Dead":
		return d, false, nil
	case g.Err != nil:
		return d, false, g.Err
	}
	described, err := admin.DescribeShareGroupOffsets(ctx, name)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return d, false, err
	}
	d = groupDetail{Group: name, State: g.GroupState, Coordinator: g.Coordinator.NodeID, Assignor: g.Assignor, Members: []memberRow{}, Offsets: []offsetRow{}}
	for _, m := range g.Members {
		d.Members = append(d.Members, memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost})
	}
	offsets := described[name].Offsets.Sorted()
	if len(offsets) == 0 {
		return d, true, nil
	}
	var topics []string
	for _, o := range offsets {
		topics = append(topics, o.Topic)
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	for _, o := range offsets {
		d.Offsets = append(d.Offsets, shareRow(o, ends, g.Members))
	}
	return d, true, err
}

func shareRow(o kadm.ShareOffset, ends kadm.ListedOffsets, members []kadm.ShareGroupMember) offsetRow {
	row := offsetRow{Topic: o.Topic, Partition: o.Partition}
	if o.Err != nil {
		row.Error = o.Err.Error()
	}
	if o.StartOffset >= 0 {
		row.Committed = &o.StartOffset
	}
	if end, ok := ends.Lookup(o.Topic, o.Partition); ok && end.Err == nil {
		row.End = &end.Offset
	}
	if o.Lag >= 0 {
		row.Lag = &o.Lag
	}
	var who []string
	for _, m := range members {
		if m.Assignment.Lookup(o.Topic, o.Partition) {
			who = append(who, m.MemberID)
		}
	}
	row.Member = strings.Join(who, ", ")
	return row
}
