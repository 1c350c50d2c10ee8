package protocol

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// ListGroups: v0-5
//
// Behaviour:
//   - The groups that this node coordinates, classic, consumer and share. Another
//     node that asks for share groups gets those that have offsets here.
//
// Version notes:
//   - v3: flexible; v4: states; v5: types
var listGroupsAPI = api{
	key: 16, name: "ListGroups", min: 0, max: 5,
	shape:  body(3, list(str()).from(4), list(str()).from(5)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster, catalog.ResourceGroup)),
	handle: plain[kmsg.ListGroupsRequest]((*Server).listGroups),
}

// The types of groups, as Kafka writes them.
const (
	classicType  = "classic"
	consumerType = "consumer"
	shareType    = "share"
)

func (s *Server) listGroups(ctx context.Context, r *request, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := kmsg.NewPtrListGroupsResponse()
	var got []kmsg.ListGroupsResponseGroup
	err := s.groups.each(ctx, func(g *group.Group) {
		state, kind := g.State().String(), classicType
		if g.IsConsumer() {
			kind = consumerType
		}
		if !listed(req.StatesFilter, state) || !listed(req.TypesFilter, kind) {
			return
		}
		got = append(got, kmsg.ListGroupsResponseGroup{
			Group: g.ID(), ProtocolType: g.Describe().ProtocolType, GroupState: state, GroupType: kind,
		})
	})
	if err == nil {
		err = s.listShares(ctx, r, req, &got)
	}
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	slices.SortFunc(got, func(a, b kmsg.ListGroupsResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
	all := s.maySite(r, catalog.OpDescribe) == nil
	resp.Groups = slices.DeleteFunc(got, func(g kmsg.ListGroupsResponseGroup) bool {
		return !all && s.mayGroup(r, catalog.OpDescribe, g.Group) != nil
	})
	return resp
}

// listed reports whether a filter lets a word through; an empty one does.
func listed(filter []string, word string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, word) })
}

// listShares adds the share groups: those with members, and those with offsets.
func (s *Server) listShares(ctx context.Context, r *request, req *kmsg.ListGroupsRequest, got *[]kmsg.ListGroupsResponseGroup) error {
	if !listed(req.TypesFilter, shareType) {
		return nil
	}
	states := map[string]group.State{}
	all := s.shareGroupIDs
	if r.peer {
		all = s.shareGroupIDsHere
	}
	kept, err := all(ctx)
	for id := range kept {
		if r.peer || s.groups.coordinates(id) {
			states[id] = group.Empty
		}
	}
	if err == nil && !r.peer {
		err = s.groups.eachShare(ctx, func(id string, _ *share.Group) { states[id] = group.Stable })
	}
	for id, state := range states {
		if listed(req.StatesFilter, state.String()) {
			*got = append(*got, kmsg.ListGroupsResponseGroup{Group: id, ProtocolType: shareType, GroupState: state.String(), GroupType: shareType})
		}
	}
	return err
}
