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
//   - Brokers: what of this node's configuration has a name in Kafka, and the
//     defaults of topics under the names that Kafka's brokers have for them;
//     read only. Nodes other than this one answer for themselves.
//   - Loggers of a broker: one, root, whose level is set where the node is
//     started. Groups: the timing of the consumer protocol and the
//     settings of share groups, which IncrementalAlterConfigs sets.
//   - A synonym that is the default bears the broker's name for it.
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
		if err != nil {
			settings = nil
		}
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
	fixed       bool              // the hub's own, cannot be set
	from        kmsg.ConfigSource // where value comes from
	synonym     string            // the name of the default at a broker
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
		return s.brokerSettings(), s.isBroker(rr.ResourceName)
	case kmsg.ConfigResourceTypeBrokerLogger:
		if err := s.maySite(r, catalog.OpDescribeConfigs); err != nil {
			return nil, err
		}
		return s.loggers(), s.isBroker(rr.ResourceName)
	case kmsg.ConfigResourceTypeGroupConfig:
		if err := s.mayGroup(r, catalog.OpDescribeConfigs, rr.ResourceName); err != nil {
			return nil, err
		}
		if rr.ResourceName == "" {
			return nil, fmt.Errorf("%w: settings of a group without a name", record.ErrInvalidRequest)
		}
		return s.groupSettings(rr.ResourceName), nil
	}
	return nil, fmt.Errorf("%w: resource type %d has no settings here, want 2 (topic), 4 (broker), 8 (logger) or 32 (group)", record.ErrInvalidRequest, rr.ResourceType)
}

func (s *Server) isBroker(name string) error {
	if id, err := strconv.Atoi(name); err != nil || int64(id) != int64(s.cfg.Node) {
		return fmt.Errorf("%w: this is broker %d, not %q", record.ErrInvalidRequest, s.cfg.Node, name)
	}
	return nil
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
		all = append(all, setting{name: k.Name, value: t.Value(k.Name), fallback: k.Default, set: set, kind: k.Type, doc: k.Doc, from: source(set), synonym: brokerName(k.Name)})
	}
	if t.Mirror != nil {
		all = append(all, setting{name: "mirror.source", value: t.Mirror.Source, set: true, fixed: true, kind: catalog.TypeString, from: kmsg.ConfigSourceDynamicTopicConfig,
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
	o.Source = c.from
	o.ConfigType = kmsg.ConfigType(c.kind)
	if req.IncludeDocumentation {
		o.Documentation = &c.doc
	}
	if !req.IncludeSynonyms {
		return o
	}
	synonym := func(name, value string, from kmsg.ConfigSource) {
		o.ConfigSynonyms = append(o.ConfigSynonyms, kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{Name: name, Value: &value, Source: from})
	}
	if c.set || c.broker {
		synonym(c.name, c.value, o.Source)
	}
	if c.synonym != "" {
		synonym(c.synonym, c.fallback, kmsg.ConfigSourceDefaultConfig)
	}
	return o
}
