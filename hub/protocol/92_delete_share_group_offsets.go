package protocol

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// DeleteShareGroupOffsets: v0 (KIP-932)
//
// Behaviour:
//   - Forgets all that the group knows of whole topics. The group must have no
//     members; without offsets there is none.
var deleteShareOffsetsAPI = api{
	key: 92, name: "DeleteShareGroupOffsets", min: 0, max: 0,
	shape:  body(0, str(), array(str())),
	needs:  needs(on(catalog.OpDelete, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.DeleteShareGroupOffsetsRequest]((*Server).deleteShareOffsets),
}

func (s *Server) deleteShareOffsets(ctx context.Context, r *request, req *kmsg.DeleteShareGroupOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	if err := s.deletableShare(ctx, r, req.GroupID); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, rt := range req.Topics {
		ot := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		ot.Topic = rt.Topic
		t, err := s.findFor(r, catalog.OpRead, s.meta.State(), false, rt.Topic, record.TopicID{})
		if err == nil {
			ot.TopicID = t.ID
			_, err = s.forgetShare(ctx, req.GroupID, t.Name)
		}
		ot.ErrorCode, ot.ErrorMessage = code(err), message(err)
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) deletableShare(ctx context.Context, r *request, id string) error {
	err := s.mayGroup(r, catalog.OpDelete, id)
	if err == nil {
		err = s.groups.vacantShare(ctx, id)
	}
	if err != nil {
		return err
	}
	kept, err := s.keepsShare(ctx, id)
	if err == nil && !kept {
		err = group.ErrNotFound
	}
	return err
}

// deleteShareGroup removes a share group without members; found is false if
// there is none of this name.
func (s *Server) deleteShareGroup(ctx context.Context, id string) (found bool, err error) {
	switch err := s.groups.vacantShare(ctx, id); {
	case errors.Is(err, group.ErrOtherProtocol):
		return false, nil
	case err != nil:
		return true, err
	}
	n, err := s.forgetShare(ctx, id, "")
	return n > 0 || err != nil, err
}
