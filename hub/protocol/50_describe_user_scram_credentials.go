package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeUserScramCredentials: v0
//
// Behaviour:
//   - Mechanisms and iterations of users' credentials; never salts or keys.
//     Users of the node's file are not among them.
//
// Version notes:
//   - v0: flexible
var describeScramAPI = api{
	key: 50, name: "DescribeUserScramCredentials", min: 0, max: 0,
	shape:  body(0, array(str())),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeUserSCRAMCredentialsRequest]((*Server).describeScram),
}

func (s *Server) describeScram(_ context.Context, r *request, req *kmsg.DescribeUserSCRAMCredentialsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	if err := s.maySite(r, catalog.OpDescribe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	have := s.meta.State().Security().Scram
	times := map[string]int{}
	var users []string
	for _, u := range req.Users {
		if times[u.Name]++; times[u.Name] == 1 {
			users = append(users, u.Name)
		}
	}
	if len(req.Users) == 0 {
		for _, c := range have { // by user
			if n := len(users); n == 0 || users[n-1] != c.User {
				users = append(users, c.User)
			}
		}
	}
	for _, user := range users {
		resp.Results = append(resp.Results, scramOf(have, user, times[user] > 1))
	}
	return resp
}

func scramOf(have []catalog.Scram, user string, twice bool) kmsg.DescribeUserSCRAMCredentialsResponseResult {
	o := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
	o.User = user
	for _, c := range have {
		if c.User == user && !twice {
			i := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
			i.Mechanism, i.Iterations = int8(c.Mechanism), c.Iterations
			o.CredentialInfos = append(o.CredentialInfos, i)
		}
	}
	var err error
	switch {
	case twice:
		err = fmt.Errorf("%w: user %q", errTwice, user)
	case len(o.CredentialInfos) == 0:
		err = fmt.Errorf("%w: %q", record.ErrNoCredential, user)
	}
	o.ErrorCode, o.ErrorMessage = code(err), message(err)
	return o
}
