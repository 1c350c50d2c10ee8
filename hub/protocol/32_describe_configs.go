package protocol

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeConfigs: v1-4
//
// Behaviour:
//   - Topics: every setting there is, with its value, where that comes from,
//     its type and what it means; of a mirror also its source, read-only.
//   - Brokers: what of this node's configuration has a name in Kafka; read
//     only. Nodes other than this one answer for themselves.
//
// Version notes:
//   - v1: source and synonyms; v3: type and documentation; v4: flexible
var describeConfigsAPI = api{
	key: 32, name: "DescribeConfigs", min: 1, max: 4,
	shape:  body(4, array(fixed(1), str(), list(str())), fixed(1), fixed(1).from(3)),
	needs:  needs(on(catalog.OpDescribeConfigs, catalog.ResourceTopic, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeConfigsRequest]((*Server).describeConfigs),
}

func (s *Server) describeConfigs(_ context.Context, r *request, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for i := range req.Resources {
		rr := &req.Resources[i]
		or := kmsg.NewDescribeConfigsResponseResource()
		or.ResourceType, or.ResourceName = rr.ResourceType, rr.ResourceName
		settings, err := s.settings(r, rr)
		or.ErrorCode, or.ErrorMessage = code(err), message(err)
		for _, c := range settings {
			if rr.ConfigNames != nil && !slices.Contains(rr.ConfigNames, c.name) {
				continue
			}
			or.Configs = append(or.Configs, c.describe(req))
		}
		resp.Resources = append(resp.Resources, or)
	}
	return resp
}

// setting is one row of an answer.
type setting struct {
	name, value string
	fallback    string // the default
	set         bool   // by someone, else it is the default
	kind        catalog.Type
	doc         string
	broker      bool
	fixed       bool // the hub's own, cannot be set
}

func (s *Server) settings(r *request, rr *kmsg.DescribeConfigsRequestResource) ([]setting, error) {
	switch rr.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := s.mayTopic(r, catalog.OpDescribeConfigs, rr.ResourceName); err != nil {
			return nil, err
		}
		return s.topicSettings(rr.ResourceName)
	case kmsg.ConfigResourceTypeBroker:
		if err := s.maySite(r, catalog.OpDescribeConfigs); err != nil {
			return nil, err
		}
		if rr.ResourceName == "" {
			return nil, nil // nothing is set for all brokers at once
		}
		if id, err := strconv.Atoi(rr.ResourceName); err != nil || int64(id) != int64(s.cfg.Node) {
			return nil, fmt.Errorf("%w: this is broker %d, not %q", record.ErrInvalidRequest, s.cfg.Node, rr.ResourceName)
		}
		return s.brokerSettings(), nil
	}
	return nil, fmt.Errorf("%w: resource type %d has no settings here, want topic or broker", record.ErrInvalidRequest, rr.ResourceType)
}

func (s *Server) topicSettings(name string) ([]setting, error) {
	if err := record.CheckTopicName(name); err != nil {
		return nil, err
	}
	t, err := find(s.meta.State(), false, name, record.TopicID{})
	if err != nil {
		return nil, err
	}
	var all []setting
	for _, k := range catalog.Keys() {
		_, set := t.Config[k.Name]
		all = append(all, setting{name: k.Name, value: t.Value(k.Name), fallback: k.Default, set: set, kind: k.Type, doc: k.Doc})
	}
	if t.Mirror != nil {
		all = append(all, setting{name: "mirror.source", value: t.Mirror.Source, set: true, fixed: true, kind: catalog.TypeString,
			doc: "The site that writes this topic; it is read-only here."})
	}
	return all, nil
}

// source is where a topic's setting comes from.
func source(set bool) kmsg.ConfigSource {
	if set {
		return kmsg.ConfigSourceDynamicTopicConfig
	}
	return kmsg.ConfigSourceDefaultConfig
}

func (c setting) describe(req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	o := kmsg.NewDescribeConfigsResponseResourceConfig()
	o.Name, o.Value, o.ReadOnly, o.IsDefault = c.name, &c.value, c.broker || c.fixed, !c.set
	o.Source = source(c.set)
	if c.broker {
		o.Source = kmsg.ConfigSourceStaticBrokerConfig
	}
	o.ConfigType = kmsg.ConfigType(c.kind)
	if req.IncludeDocumentation {
		o.Documentation = &c.doc
	}
	if !req.IncludeSynonyms {
		return o
	}
	synonym := func(value string, from kmsg.ConfigSource) {
		o.ConfigSynonyms = append(o.ConfigSynonyms, kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{Name: c.name, Value: &value, Source: from})
	}
	if c.set || c.broker {
		synonym(c.value, o.Source)
	}
	if !c.broker {
		synonym(c.fallback, kmsg.ConfigSourceDefaultConfig)
	}
	return o
}
