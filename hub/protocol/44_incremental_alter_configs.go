package protocol

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// IncrementalAlterConfigs: v0-1
//
// Behaviour:
//   - Set, delete, and for lists append and subtract, all or none for a topic.
//     Append and subtract count from the value at this node at that moment.
//   - Of a broker, its throttles can be deleted, which it does not have:
//     kafka-reassign-partitions does so when a move is done.
//   - Of a group, the timing of the consumer protocol, within the bounds of this
//     node, and the settings of share groups.
//
// Version notes:
//   - v1: flexible
var incrementalAlterConfigsAPI = api{
	key: 44, name: "IncrementalAlterConfigs", min: 0, max: 1,
	shape:  body(1, array(fixed(1), str(), array(str(), fixed(1), str())), fixed(1)),
	needs:  needs(on(catalog.OpAlterConfigs, catalog.ResourceTopic, catalog.ResourceCluster)),
	handle: plain[kmsg.IncrementalAlterConfigsRequest]((*Server).incrementalAlterConfigs),
}

func (s *Server) incrementalAlterConfigs(ctx context.Context, r *request, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	for i := range req.Resources {
		rr := &req.Resources[i]
		or := kmsg.NewIncrementalAlterConfigsResponseResource()
		or.ResourceType, or.ResourceName = rr.ResourceType, rr.ResourceName
		cmd, err := s.alterConfig(ctx, r, rr)
		if err == nil && cmd != nil {
			_, err = s.change(ctx, cmd, req.ValidateOnly)
		}
		or.ErrorCode, or.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, or)
	}
	return resp
}

// throttles are the settings of brokers that bound how fast replicas are copied.
var throttles = [...]string{"follower.replication.throttled.rate", "leader.replication.throttled.rate", "replica.alter.log.dirs.io.max.bytes.per.second"}

// unthrottles reports whether a change of a broker's settings does nothing but
// take throttles away.
func unthrottles(rr *kmsg.IncrementalAlterConfigsRequestResource) bool {
	return rr.ResourceType == kmsg.ConfigResourceTypeBroker && len(rr.Configs) > 0 &&
		!slices.ContainsFunc(rr.Configs, func(c kmsg.IncrementalAlterConfigsRequestResourceConfig) bool {
			return c.Op != kmsg.IncrementalAlterConfigOpDelete || !slices.Contains(throttles[:], c.Name)
		})
}

// alterConfig is the command for a change of one resource; nil: it changes
// nothing.
func (s *Server) alterConfig(ctx context.Context, r *request, rr *kmsg.IncrementalAlterConfigsRequestResource) (catalog.Command, error) {
	if rr.ResourceType == kmsg.ConfigResourceTypeGroupConfig {
		return s.alterGroup(r, rr)
	}
	if unthrottles(rr) {
		return nil, s.maySite(r, catalog.OpAlterConfigs)
	}
	t, err := s.configured(ctx, r, rr.ResourceType, rr.ResourceName)
	if err != nil {
		return nil, err
	}
	cmd := catalog.AlterTopicConfig{Name: t.Name, Set: map[string]string{}}
	for _, c := range rr.Configs {
		if _, twice := cmd.Set[c.Name]; twice || slices.Contains(cmd.Remove, c.Name) {
			return nil, fmt.Errorf("%w: setting %s of topic %q", errDuplicate, c.Name, t.Name)
		}
		if c.Op == kmsg.IncrementalAlterConfigOpDelete {
			cmd.Remove = append(cmd.Remove, c.Name)
			continue
		}
		if cmd.Set[c.Name], err = altered(t, c); err != nil {
			return nil, err
		}
	}
	return cmd, nil
}

// alterGroup sets and deletes settings of a group, none of which is a list.
func (s *Server) alterGroup(r *request, rr *kmsg.IncrementalAlterConfigsRequestResource) (catalog.Command, error) {
	if err := s.mayGroup(r, catalog.OpAlterConfigs, rr.ResourceName); err != nil {
		return nil, err
	}
	cmd := catalog.AlterGroupConfig{Group: rr.ResourceName, Set: map[string]string{}}
	for _, c := range rr.Configs {
		_, twice := cmd.Set[c.Name]
		switch {
		case twice || slices.Contains(cmd.Remove, c.Name):
			return nil, fmt.Errorf("%w: setting %s of group %q", errDuplicate, c.Name, cmd.Group)
		case c.Op == kmsg.IncrementalAlterConfigOpDelete:
			cmd.Remove = append(cmd.Remove, c.Name)
		case c.Op != kmsg.IncrementalAlterConfigOpSet || c.Value == nil:
			return nil, fmt.Errorf("%w: %s of group %q can be set to a value or deleted", record.ErrInvalidConfig, c.Name, cmd.Group)
		default:
			cmd.Set[c.Name] = *c.Value
		}
	}
	return cmd, s.mayTime(cmd)
}

// mayTime checks a change of how a group's members are heard against the
// bounds of this node.
func (s *Server) mayTime(cmd catalog.AlterGroupConfig) error {
	after := map[string]string{}
	maps.Copy(after, s.meta.State().GroupConfig(cmd.Group))
	changed := false
	for _, name := range cmd.Remove {
		delete(after, name)
		changed = changed || name == catalog.GroupSession || name == catalog.GroupInterval
	}
	for name, v := range cmd.Set {
		after[name] = v
		changed = changed || name == catalog.GroupSession || name == catalog.GroupInterval
	}
	if !changed {
		return nil
	}
	if err := s.cfg.Group.Bounds.Check(timing(s.cfg.Group, after)); err != nil {
		return fmt.Errorf("group %q: %w", cmd.Group, err)
	}
	return nil
}

// altered is the value of a setting after a change other than a deletion.
func altered(t *catalog.Topic, c kmsg.IncrementalAlterConfigsRequestResourceConfig) (string, error) {
	if c.Value == nil {
		return "", fmt.Errorf("%w: %s of topic %q has no value", record.ErrInvalidConfig, c.Name, t.Name)
	}
	if c.Op == kmsg.IncrementalAlterConfigOpSet {
		return *c.Value, nil
	}
	key, err := catalog.LookupKey(c.Name)
	if err != nil {
		return "", err
	}
	if key.Type != catalog.TypeList {
		return "", fmt.Errorf("%w: %s is no list, nothing can be added to it or taken from it", record.ErrInvalidConfig, c.Name)
	}
	have := words(t.Value(c.Name))
	switch c.Op {
	case kmsg.IncrementalAlterConfigOpAppend:
		for _, w := range words(*c.Value) {
			if !slices.Contains(have, w) {
				have = append(have, w)
			}
		}
	case kmsg.IncrementalAlterConfigOpSubtract:
		gone := words(*c.Value)
		have = slices.DeleteFunc(have, func(w string) bool { return slices.Contains(gone, w) })
	default:
		return "", fmt.Errorf("%w: operation %d on %s, want 0 to 3", record.ErrInvalidRequest, c.Op, c.Name)
	}
	return strings.Join(have, ","), nil
}

// words cuts a list setting.
func words(list string) (ws []string) {
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			ws = append(ws, w)
		}
	}
	return ws
}
