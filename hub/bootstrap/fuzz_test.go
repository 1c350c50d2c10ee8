package bootstrap

import "testing"

// FuzzDecode reads what a stranger may send: it is refused or answered, and
// never breaks a node, whatever that holds.
func FuzzDecode(f *testing.F) {
	p := &Proposal{Cluster: "c", Owner: "a", Members: []Member{{Name: "a", Nonce: "n1", Peer: "a:1"}, {Name: "b", Nonce: "n2"}}}
	for _, r := range []Request{{Propose, p}, {Ask, p}, {Ask, nil}, {Tell, p}} {
		b, err := Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, held := range []*Proposal{nil, p} {
			n := 0
			m := New(Config{Name: "b", Expect: 2, Draw: func() string { n++; return "d" }}, State{Nonce: "n2", Held: held})
			if r, err := DecodeRequest(b); err == nil {
				m.Handle(r)
			}
			if r, err := DecodeReply(b); err == nil {
				m.Answered(Call{p.Members[0], Request{Ask, p}}, r)
			}
			through(t, m.State(), DecodeState)
			m.Tick(nil)
			if s, err := DecodeState(b); err == nil {
				New(Config{Name: "b", Expect: 2, Draw: func() string { return "d" }}, s).Tick(nil)
			}
		}
	})
}
