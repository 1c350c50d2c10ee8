package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterConfigs: v0-2
//
// Behaviour:
//   - Replaces all settings of a topic: those not named go back to their
//     defaults. Settings of brokers are in the node's file.
//
// Version notes:
//   - v2: flexible
var alterConfigsAPI = api{
	key: 33, name: "AlterConfigs", min: 0, max: 2,
	shape:  body(2, array(fixed(1), str(), array(str(), str())), fixed(1)),
	needs:  needs(on(catalog.OpAlterConfigs, catalog.ResourceTopic, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterConfigsRequest]((*Server).alterConfigs),
}

func (s *Server) alterConfigs(ctx context.Context, r *request, req *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterConfigsResponse()
	for i := range req.Resources {
		rr := &req.Resources[i]
		or := kmsg.NewAlterConfigsResponseResource()
		or.ResourceType, or.ResourceName = rr.ResourceType, rr.ResourceName
		cmd, err := s.replaceConfig(ctx, r, rr)
		if err == nil {
			_, err = s.change(ctx, cmd, req.ValidateOnly)
		}
		or.ErrorCode, or.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, or)
	}
	return resp
}

func (s *Server) replaceConfig(ctx context.Context, r *request, rr *kmsg.AlterConfigsRequestResource) (catalog.Command, error) {
	t, err := s.configured(ctx, r, rr.ResourceType, rr.ResourceName)
	if err != nil {
		return nil, err
	}
	cmd := catalog.AlterTopicConfig{Name: t.Name, Set: map[string]string{}}
	for _, c := range rr.Configs {
		if _, twice := cmd.Set[c.Name]; twice {
			return nil, fmt.Errorf("%w: setting %s of topic %q", errDuplicate, c.Name, t.Name)
		}
		if c.Value == nil {
			return nil, fmt.Errorf("%w: %s of topic %q has no value", record.ErrInvalidConfig, c.Name, t.Name)
		}
		cmd.Set[c.Name] = *c.Value
	}
	for name := range t.Config {
		if _, kept := cmd.Set[name]; !kept {
			cmd.Remove = append(cmd.Remove, name)
		}
	}
	return cmd, nil
}

// configured finds the topic whose settings are to change.
func (s *Server) configured(ctx context.Context, r *request, kind kmsg.ConfigResourceType, name string) (*catalog.Topic, error) {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		return s.findToChange(ctx, r, catalog.OpAlterConfigs, false, name, record.TopicID{})
	case kmsg.ConfigResourceTypeBroker:
		if err := s.maySite(r, catalog.OpAlterConfigs); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: settings of brokers are changed in the node's configuration file", record.ErrInvalidRequest)
	}
	return nil, fmt.Errorf("%w: resource type %d has no settings here, want topic", record.ErrInvalidRequest, kind)
}
