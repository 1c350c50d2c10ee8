package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// CreateAcls: v1-3
//
// Behaviour:
//   - Each ACL by itself: one that is wrong does not keep the others from being
//     created. One that is there already is created once more.
//
// Version notes:
//   - v2: flexible; v3: resource type User
var createACLsAPI = api{
	key: 30, name: "CreateAcls", min: 1, max: 3,
	shape:  body(2, array(fixed(1), str(), fixed(1), str(), str(), fixed(1), fixed(1))),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.CreateACLsRequest]((*Server).createACLs),
}

func (s *Server) createACLs(ctx context.Context, r *request, req *kmsg.CreateACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrCreateACLsResponse()
	denied := s.mayACLs(r, catalog.OpAlter)
	for _, c := range req.Creations {
		err := denied
		if err == nil {
			_, err = s.meta.Propose(ctx, catalog.CreateACLs{ACLs: []catalog.ACL{{
				Principal: c.Principal, Host: c.Host, Resource: catalog.ResourceType(c.ResourceType), Pattern: catalog.Pattern(c.ResourcePatternType),
				Name: c.ResourceName, Operation: catalog.Operation(c.Operation), Permission: catalog.Permission(c.PermissionType),
			}}})
		}
		o := kmsg.NewCreateACLsResponseResult()
		o.ErrorCode, o.ErrorMessage = code(err), message(err)
		resp.Results = append(resp.Results, o)
	}
	return resp
}
