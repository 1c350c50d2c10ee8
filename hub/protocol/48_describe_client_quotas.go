package protocol

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeClientQuotas: v0-1
//
// Behaviour:
//   - The quotas whose entities fit all components; strict: that have no other.
//
// Version notes:
//   - v1: flexible
var describeQuotasAPI = api{
	key: 48, name: "DescribeClientQuotas", min: 0, max: 1,
	shape:  body(1, array(str(), fixed(1), str()), fixed(1)),
	needs:  needs(on(catalog.OpDescribeConfigs, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeClientQuotasRequest]((*Server).describeQuotas),
}

// The types of a quota's entities.
const (
	quotaUser   = "user"
	quotaClient = "client-id"
)

func (s *Server) describeQuotas(_ context.Context, r *request, req *kmsg.DescribeClientQuotasRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	err := s.maySite(r, catalog.OpDescribeConfigs)
	if err == nil {
		err = checkComponents(req.Components)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	for _, q := range s.meta.State().Security().Quotas {
		if !quotaFits(q, req) {
			continue
		}
		e := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, part := range []struct {
			kind string
			name *string
		}{{quotaUser, q.User}, {quotaClient, q.Client}} {
			if part.name != nil {
				e.Entity = append(e.Entity, kmsg.DescribeClientQuotasResponseEntryEntity{Type: part.kind, Name: nonEmpty(*part.name)})
			}
		}
		for _, k := range slices.Sorted(maps.Keys(q.Limits)) {
			e.Values = append(e.Values, kmsg.DescribeClientQuotasResponseEntryValue{Key: k, Value: q.Limits[k]})
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp
}

func checkComponents(all []kmsg.DescribeClientQuotasRequestComponent) error {
	seen := map[string]bool{}
	for _, c := range all {
		switch {
		case c.EntityType != quotaUser && c.EntityType != quotaClient:
			return fmt.Errorf("%w: no quotas of a %q, want %s or %s", errUnknownMode, c.EntityType, quotaUser, quotaClient)
		case seen[c.EntityType]:
			return fmt.Errorf("%w: component %s", errDuplicate, c.EntityType)
		case c.MatchType < kmsg.QuotasMatchTypeExact || c.MatchType > kmsg.QuotasMatchTypeAny:
			return fmt.Errorf("%w: match type %d, want 0 to 2", record.ErrInvalidRequest, c.MatchType)
		case c.MatchType == kmsg.QuotasMatchTypeExact && c.Match == nil:
			return fmt.Errorf("%w: an exact match of nothing", record.ErrInvalidRequest)
		}
		seen[c.EntityType] = true
	}
	return nil
}

func quotaFits(q catalog.Quota, req *kmsg.DescribeClientQuotasRequest) bool {
	named := 0
	for _, c := range req.Components {
		part := q.User
		if c.EntityType == quotaClient {
			part = q.Client
		}
		if part == nil {
			return false
		}
		named++
		switch c.MatchType {
		case kmsg.QuotasMatchTypeExact:
			if *part == "" || *part != *c.Match {
				return false
			}
		case kmsg.QuotasMatchTypeDefault:
			if *part != "" {
				return false
			}
		}
	}
	parts := 0
	for _, p := range []*string{q.User, q.Client} {
		if p != nil {
			parts++
		}
	}
	return !req.Strict || parts == named
}
