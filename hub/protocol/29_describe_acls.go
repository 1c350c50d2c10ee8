package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeAcls: v1-3
//
// Behaviour:
//   - The ACLs that a filter selects, by resource.
//   - SECURITY_DISABLED where ACLs are not asked.
//
// Version notes:
//   - v2: flexible; v3: resource type User
var describeACLsAPI = api{
	key: 29, name: "DescribeAcls", min: 1, max: 3,
	shape:  body(2, fixed(1), str(), fixed(1), str(), str(), fixed(1), fixed(1)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeACLsRequest]((*Server).describeACLs),
}

func (s *Server) describeACLs(_ context.Context, r *request, req *kmsg.DescribeACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeACLsResponse()
	f, err := aclFilter(req.ResourceType, req.ResourceName, req.ResourcePatternType, req.Principal, req.Host, req.Operation, req.PermissionType)
	if denied := s.mayACLs(r, catalog.OpDescribe); denied != nil {
		err = denied
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, a := range s.selectACLs(f) {
		n := len(resp.Resources)
		if n == 0 || !sameResource(resp.Resources[n-1], a) {
			or := kmsg.NewDescribeACLsResponseResource()
			or.ResourceType, or.ResourceName, or.ResourcePatternType = kmsg.ACLResourceType(a.Resource), a.Name, kmsg.ACLResourcePatternType(a.Pattern)
			resp.Resources, n = append(resp.Resources, or), n+1
		}
		o := kmsg.NewDescribeACLsResponseResourceACL()
		o.Principal, o.Host, o.Operation, o.PermissionType = a.Principal, a.Host, kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
		resp.Resources[n-1].ACLs = append(resp.Resources[n-1].ACLs, o)
	}
	return resp
}

func sameResource(r kmsg.DescribeACLsResponseResource, a catalog.ACL) bool {
	return r.ResourceType == kmsg.ACLResourceType(a.Resource) && r.ResourceName == a.Name && r.ResourcePatternType == kmsg.ACLResourcePatternType(a.Pattern)
}

// mayACLs refuses what concerns ACLs where they are not asked.
func (s *Server) mayACLs(r *request, op catalog.Operation) error {
	if s.cfg.Authorize == nil {
		return fmt.Errorf("%w: security.authorize is off", errNoACLs)
	}
	return s.maySite(r, op)
}

// selectACLs are the ACLs that a filter selects, in the catalog's order.
func (s *Server) selectACLs(f auth.Filter) (found []catalog.ACL) {
	for _, a := range s.meta.State().Security().ACLs {
		if f.Matches(a) {
			found = append(found, a)
		}
	}
	return found
}

// aclFilter reads a filter. Numbers that stand for nothing are refused: they
// would select nothing, and a deletion would seem done.
func aclFilter(kind kmsg.ACLResourceType, name *string, pattern kmsg.ACLResourcePatternType, principal, host *string, op kmsg.ACLOperation, permission kmsg.ACLPermissionType) (auth.Filter, error) {
	f := auth.Filter{
		Resource: catalog.ResourceType(kind), Name: name, Pattern: catalog.Pattern(pattern), Principal: principal, Host: host,
		Operation: catalog.Operation(op), Permission: catalog.Permission(permission),
	}
	if f.Resource < catalog.ResourceAny || f.Resource > catalog.ResourceUser || f.Pattern < catalog.PatternAny || f.Pattern > catalog.PatternPrefixed ||
		f.Operation < catalog.OpAny || f.Operation > catalog.OpTwoPhaseCommit || f.Permission < catalog.PermissionAny || f.Permission > catalog.PermissionAllow {
		return f, fmt.Errorf("%w: the filter has a type, pattern, operation or permission that there is not", record.ErrInvalidRequest)
	}
	return f, nil
}
