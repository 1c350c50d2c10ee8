package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// DeleteAcls: v1-3
//
// Behaviour:
//   - Removes what each filter selects, and answers with what that was.
//
// Version notes:
//   - v2: flexible; v3: resource type User
var deleteACLsAPI = api{
	key: 31, name: "DeleteAcls", min: 1, max: 3,
	shape:  body(2, array(fixed(1), str(), fixed(1), str(), str(), fixed(1), fixed(1))),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.DeleteACLsRequest]((*Server).deleteACLs),
}

func (s *Server) deleteACLs(ctx context.Context, r *request, req *kmsg.DeleteACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteACLsResponse()
	denied := s.mayACLs(r, catalog.OpAlter)
	for i := range req.Filters {
		o := kmsg.NewDeleteACLsResponseResult()
		var gone []catalog.ACL
		err := denied
		if err == nil {
			gone, err = s.deleteSelected(ctx, &req.Filters[i])
		}
		o.ErrorCode, o.ErrorMessage = code(err), message(err)
		for _, a := range gone {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceType, m.ResourceName, m.ResourcePatternType = kmsg.ACLResourceType(a.Resource), a.Name, kmsg.ACLResourcePatternType(a.Pattern)
			m.Principal, m.Host, m.Operation, m.PermissionType = a.Principal, a.Host, kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
			o.MatchingACLs = append(o.MatchingACLs, m)
		}
		resp.Results = append(resp.Results, o)
	}
	return resp
}

func (s *Server) deleteSelected(ctx context.Context, rf *kmsg.DeleteACLsRequestFilter) ([]catalog.ACL, error) {
	f, err := aclFilter(rf.ResourceType, rf.ResourceName, rf.ResourcePatternType, rf.Principal, rf.Host, rf.Operation, rf.PermissionType)
	if err != nil {
		return nil, err
	}
	gone := s.selectACLs(f)
	if len(gone) == 0 {
		return nil, nil
	}
	_, err = s.meta.Propose(ctx, catalog.DeleteACLs{ACLs: gone})
	return gone, err
}
