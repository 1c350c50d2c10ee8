package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Authorize turns the decisions of ACLs on.
type Authorize struct {
	Supers []auth.Principal // may do everything
	Open   bool             // what has no ACL at all is everyone's (Kafka's allow.everyone.if.no.acl.found)
}

// right is an operation on a resource of a type.
type right struct {
	op   catalog.Operation
	kind catalog.ResourceType
}

// Each API declares the rights that a request needs: all groups of them, of
// each group one. The checks are in the handlers, because most refuse one topic
// or group of many; a test holds them to the declaration.
func needs(groups ...[]right) [][]right { return groups }

// nothing is what an API needs that anybody may call.
var nothing = [][]right{}

// on is one operation on one of some types of resource.
func on(op catalog.Operation, kinds ...catalog.ResourceType) (rs []right) {
	for _, k := range kinds {
		rs = append(rs, right{op, k})
	}
	return rs
}

// Refusals, by the type of the resource.
var (
	errTopicDenied   = errors.New("not authorized to access this topic")
	errGroupDenied   = errors.New("not authorized to access this group")
	errClusterDenied = errors.New("not authorized to access this site")
	errTxnDenied     = errors.New("not authorized to access this transactional ID")
)

// builtRules are rules with what they were made of.
type builtRules struct {
	of    *catalog.Security
	rules *auth.Rules
}

// rules are those of the present catalog; nil: everything is allowed.
func (s *Server) rules() *auth.Rules {
	if s.cfg.Authorize == nil {
		return nil
	}
	now := s.meta.State().Security()
	if b := s.built.Load(); b != nil && b.of == now {
		return b.rules
	}
	b := &builtRules{now, auth.NewRules(now.ACLs, s.cfg.Authorize.Supers, s.cfg.Authorize.Open)}
	s.built.Store(b)
	return b.rules
}

// may returns nil if the request's client may do this to that resource, and
// otherwise the refusal for its type.
func (s *Server) may(r *request, op catalog.Operation, kind catalog.ResourceType, name string) error {
	rules := s.rules()
	if rules == nil || rules.Allowed(r.who, r.host, op, kind, name) {
		return nil
	}
	err := errClusterDenied
	switch kind {
	case catalog.ResourceTopic:
		err = errTopicDenied
	case catalog.ResourceGroup:
		err = errGroupDenied
	case catalog.ResourceTransactionalID:
		err = errTxnDenied
	}
	return fmt.Errorf("%w: %s", err, r.who)
}

func (s *Server) mayTopic(r *request, op catalog.Operation, topic string) error {
	return s.may(r, op, catalog.ResourceTopic, topic)
}

func (s *Server) mayGroup(r *request, op catalog.Operation, group string) error {
	return s.may(r, op, catalog.ResourceGroup, group)
}

func (s *Server) maySite(r *request, op catalog.Operation) error {
	return s.may(r, op, catalog.ResourceCluster, catalog.ClusterName)
}

func (s *Server) mayTransact(r *request, transactionalID string) error {
	return s.may(r, catalog.OpWrite, catalog.ResourceTransactionalID, transactionalID)
}

// mayCreate: whoever may create in the site may create any topic.
func (s *Server) mayCreate(r *request, topic string) error {
	if s.maySite(r, catalog.OpCreate) == nil {
		return nil
	}
	return s.mayTopic(r, catalog.OpCreate, topic)
}

// mayProduce: a transactional ID has its own right; a producer without one may
// have a number if he may write anything.
func (s *Server) mayProduce(r *request, transactionalID *string) error {
	if transactionalID != nil {
		return s.mayTransact(r, *transactionalID)
	}
	err := s.maySite(r, catalog.OpIdempotentWrite)
	if err != nil && s.rules().AllowedSomewhere(r.who, r.host, catalog.OpWrite, catalog.ResourceTopic) {
		return nil
	}
	return err
}

// findFor is find for a request that needs an operation on the topic. A name
// is judged before it is looked up, so that a refusal does not tell whether
// there is such a topic.
func (s *Server) findFor(r *request, op catalog.Operation, st *catalog.State, byID bool, name string, id record.TopicID) (*catalog.Topic, error) {
	if !byID {
		if err := s.mayTopic(r, op, name); err != nil {
			return nil, err
		}
	}
	t, err := find(st, byID, name, id)
	if err == nil && byID {
		err = s.mayTopic(r, op, t.Name)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// visible are the topics that the client may know of.
func (s *Server) visible(r *request, topics []*catalog.Topic) []*catalog.Topic {
	if s.cfg.Authorize == nil {
		return topics
	}
	return slices.DeleteFunc(slices.Clone(topics), func(t *catalog.Topic) bool { return s.mayTopic(r, catalog.OpDescribe, t.Name) != nil })
}

// operations are what the client may do to a resource, as the bits of Kafka's
// operations (KIP-430).
func (s *Server) operations(r *request, kind catalog.ResourceType, name string) (bits int32) {
	if rules := s.rules(); rules != nil {
		return rules.Operations(r.who, r.host, kind, name)
	}
	for _, op := range catalog.Operations(kind) {
		bits |= 1 << op
	}
	return bits
}

// siteOperations are told to those only who may describe the site.
func (s *Server) siteOperations(r *request) int32 {
	if s.maySite(r, catalog.OpDescribe) != nil {
		return 0
	}
	return s.operations(r, catalog.ResourceCluster, catalog.ClusterName)
}
