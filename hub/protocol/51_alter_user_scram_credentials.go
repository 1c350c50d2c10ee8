package protocol

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/auth"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterUserScramCredentials: v0
//
// Behaviour:
//   - Sets and removes credentials; all that concerns one user happens or none
//     of it. The password comes salted, and of that only the keys are kept.
//
// Version notes:
//   - v0: flexible
var alterScramAPI = api{
	key: 51, name: "AlterUserScramCredentials", min: 0, max: 0,
	shape:  body(0, array(str(), fixed(1)), array(str(), fixed(1), fixed(4), blob(), blob())),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterUserSCRAMCredentialsRequest]((*Server).alterScram),
}

func (s *Server) alterScram(ctx context.Context, r *request, req *kmsg.AlterUserSCRAMCredentialsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	denied := s.maySite(r, catalog.OpAlter)
	var users []string
	byUser := map[string]*catalog.AlterScram{}
	faults := map[string]error{}
	of := func(user string, m int8) *catalog.AlterScram {
		c := byUser[user]
		if c == nil {
			c = &catalog.AlterScram{}
			byUser[user], users = c, append(users, user)
		}
		if faults[user] == nil {
			faults[user] = scramFault(c, user, catalog.ScramMechanism(m))
		}
		return c
	}
	for _, d := range req.Deletions {
		c := of(d.Name, d.Mechanism)
		c.Delete = append(c.Delete, catalog.ScramKey{User: d.Name, Mechanism: catalog.ScramMechanism(d.Mechanism)})
	}
	for _, u := range req.Upsertions {
		c := of(u.Name, u.Mechanism)
		c.Set = append(c.Set, auth.ScramOfSalted(u.Name, u.SaltedPassword, bytes.Clone(u.Salt), catalog.ScramMechanism(u.Mechanism), u.Iterations))
	}
	for _, user := range users {
		err := denied
		if err == nil {
			err = faults[user]
		}
		if err == nil {
			_, err = s.meta.Propose(ctx, *byUser[user])
		}
		o := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		o.User, o.ErrorCode, o.ErrorMessage = user, code(err), message(err)
		resp.Results = append(resp.Results, o)
	}
	return resp
}

// scramFault judges one more change of a user's credentials.
func scramFault(c *catalog.AlterScram, user string, m catalog.ScramMechanism) error {
	switch {
	case user == "":
		return fmt.Errorf("%w: a user without a name", record.ErrBadCredential)
	case m != catalog.ScramSHA256 && m != catalog.ScramSHA512:
		return fmt.Errorf("%w: mechanism %d, want 1 (SHA-256) or 2 (SHA-512)", errMechanism, m)
	}
	for _, d := range c.Delete {
		if d.Mechanism == m {
			return fmt.Errorf("%w: mechanism %d of user %q", errTwice, m, user)
		}
	}
	for _, o := range c.Set {
		if o.Mechanism == m {
			return fmt.Errorf("%w: mechanism %d of user %q", errTwice, m, user)
		}
	}
	return nil
}
