package bootstrap

import (
	"encoding/json"
	"fmt"
)

// Encode writes a request, a reply or a state as JSON: fields that a later
// version adds are passed over by this one.
func Encode[T Request | Reply | State](v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode bootstrap %T: %w", v, err)
	}
	return b, nil
}

// DecodeRequest reads what another node asks.
func DecodeRequest(b []byte) (Request, error) {
	r, err := decode[Request](b)
	if err == nil && r.Kind != Propose && r.Kind != Ask && r.Kind != Tell {
		err = fmt.Errorf("unknown kind %.20q", string(r.Kind))
	}
	if err == nil && r.Proposal == nil && r.Kind != Ask {
		err = fmt.Errorf("%s without a proposal", r.Kind)
	}
	return r, wrap(err, "request", r.Proposal)
}

// DecodeReply reads what another node answered.
func DecodeReply(b []byte) (Reply, error) {
	r, err := decode[Reply](b)
	if err == nil && (r.Verdict == Decided) != (r.Decided != nil) {
		err = fmt.Errorf("verdict %.20q and what is decided do not go together", string(r.Verdict))
	}
	return r, wrap(err, "reply", r.Decided)
}

// DecodeState reads what was saved. Empty is the state of a node that has never
// taken part.
func DecodeState(b []byte) (State, error) {
	if len(b) == 0 {
		return State{}, nil
	}
	s, err := decode[State](b)
	if err == nil {
		err = checkTexts(s.Nonce)
	}
	return s, wrap(err, "state", s.Held, s.Decided)
}

func decode[T any](b []byte) (v T, err error) {
	err = json.Unmarshal(b, &v)
	return v, err
}

func wrap(err error, what string, proposals ...*Proposal) error {
	for _, p := range proposals {
		if err == nil && p != nil {
			err = p.check()
		}
	}
	if err != nil {
		return fmt.Errorf("decode bootstrap %s: %w", what, err)
	}
	return nil
}
