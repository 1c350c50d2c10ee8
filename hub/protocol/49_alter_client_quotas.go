package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterClientQuotas: v0-1
//
// Behaviour:
//   - Sets and removes limits of users and client IDs, and of the default of
//     either (a null name). Quotas of addresses there are none.
//
// Version notes:
//   - v1: flexible
var alterQuotasAPI = api{
	key: 49, name: "AlterClientQuotas", min: 0, max: 1,
	shape:  body(1, array(array(str(), str()), array(str(), fixed(8), fixed(1))), fixed(1)),
	needs:  needs(on(catalog.OpAlterConfigs, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterClientQuotasRequest]((*Server).alterQuotas),
}

func (s *Server) alterQuotas(ctx context.Context, r *request, req *kmsg.AlterClientQuotasRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	denied := s.maySite(r, catalog.OpAlterConfigs)
	for i := range req.Entries {
		re := &req.Entries[i]
		cmd, err := quotaCommand(re)
		if denied != nil {
			err = denied
		}
		if err == nil {
			_, err = s.change(ctx, cmd, req.ValidateOnly)
		}
		o := kmsg.NewAlterClientQuotasResponseEntry()
		o.ErrorCode, o.ErrorMessage = code(err), message(err)
		for _, e := range re.Entity {
			o.Entity = append(o.Entity, kmsg.AlterClientQuotasResponseEntryEntity{Type: e.Type, Name: e.Name})
		}
		resp.Entries = append(resp.Entries, o)
	}
	return resp
}

func quotaCommand(re *kmsg.AlterClientQuotasRequestEntry) (catalog.AlterQuota, error) {
	cmd := catalog.AlterQuota{Set: map[string]float64{}}
	for _, e := range re.Entity {
		name := orEmpty(e.Name)
		part := &cmd.User
		switch {
		case e.Type == quotaClient:
			part = &cmd.Client
		case e.Type != quotaUser:
			return cmd, fmt.Errorf("%w: no quotas of a %q, want %s or %s", record.ErrInvalidRequest, e.Type, quotaUser, quotaClient)
		}
		switch {
		case *part != nil:
			return cmd, fmt.Errorf("%w: %s", errDuplicate, e.Type)
		case e.Name != nil && name == "":
			return cmd, fmt.Errorf("%w: a %s without a name; the default has a null one", record.ErrInvalidRequest, e.Type)
		}
		*part = &name
	}
	for _, op := range re.Ops {
		if op.Remove {
			cmd.Remove = append(cmd.Remove, op.Key)
			continue
		}
		cmd.Set[op.Key] = op.Value
	}
	return cmd, nil
}
