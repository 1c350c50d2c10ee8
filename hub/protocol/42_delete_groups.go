package protocol

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// DeleteGroups: v0-3
//
// Behaviour:
//   - Groups with members are refused; offsets go with the group.
//
// Version notes:
//   - v2: flexible; v3: error message
var deleteGroupsAPI = api{
	key: 42, name: "DeleteGroups", min: 0, max: 3,
	shape:  body(2, list(str())),
	needs:  needs(on(catalog.OpDelete, catalog.ResourceGroup)),
	handle: plain[kmsg.DeleteGroupsRequest]((*Server).deleteGroups),
}

func (s *Server) deleteGroups(ctx context.Context, r *request, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for _, id := range req.Groups {
		og := kmsg.NewDeleteGroupsResponseGroup()
		og.Group = id
		err := s.mayGroup(r, catalog.OpDelete, id)
		if err == nil {
			err = s.deleteGroup(ctx, id)
		}
		og.ErrorCode, og.ErrorMessage = code(err), message(err)
		resp.Groups = append(resp.Groups, og)
	}
	return resp
}

func (s *Server) deleteGroup(ctx context.Context, id string) error {
	if done, err := s.deleteShareGroup(ctx, id); done {
		return err
	}
	_, err := s.groups.ask(ctx, id, func(_ time.Time, g *group.Group, t group.Ticket) group.Output {
		if g.Vacant() {
			return group.Output{Answers: []group.Answer{{Ticket: t, Err: group.ErrNotFound}}}
		}
		return g.Delete(t)
	})
	return err
}

// asError is errors.As for a typed target.
func asError[E error](err error, target *E) bool { return errors.As(err, target) }
