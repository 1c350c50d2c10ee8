package catalog

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

func credential(user string, m ScramMechanism) Scram {
	size := 32
	if m == ScramSHA512 {
		size = 64
	}
	return Scram{User: user, Mechanism: m, Iterations: 4096, Salt: []byte("salt"), StoredKey: bytes.Repeat([]byte{1}, size), ServerKey: bytes.Repeat([]byte{2}, size)}
}

func anACL(name string) ACL {
	return ACL{Principal: "User:alice", Host: "*", Resource: ResourceTopic, Pattern: PatternLiteral, Name: name, Operation: OpRead, Permission: PermissionAllow}
}

// What is wrong in a command is refused and changes nothing.
func TestSecurityCommandsAreJudged(t *testing.T) {
	name, empty := "u", ""
	acl := func(change func(*ACL)) Command {
		a := anACL("t")
		change(&a)
		return CreateACLs{ACLs: []ACL{anACL("ok"), a}}
	}
	scram := func(change func(*Scram)) Command {
		c := credential("u", ScramSHA256)
		change(&c)
		return AlterScram{Set: []Scram{c}}
	}
	for what, c := range map[string]Command{
		"no type":            acl(func(a *ACL) { a.Principal = "alice" }),
		"no name":            acl(func(a *ACL) { a.Principal = "User:" }),
		"no host":            acl(func(a *ACL) { a.Host = "" }),
		"any resource":       acl(func(a *ACL) { a.Resource = ResourceAny }),
		"any pattern":        acl(func(a *ACL) { a.Pattern = PatternMatch }),
		"no resource name":   acl(func(a *ACL) { a.Name = "" }),
		"another cluster":    acl(func(a *ACL) { a.Resource, a.Name, a.Operation = ResourceCluster, "x", OpAlter }),
		"any operation":      acl(func(a *ACL) { a.Operation = OpAny }),
		"a group is written": acl(func(a *ACL) { a.Resource, a.Operation = ResourceGroup, OpWrite }),
		"any permission":     acl(func(a *ACL) { a.Permission = PermissionAny }),
		"mechanism":          scram(func(c *Scram) { c.Mechanism = 3 }),
		"too few iterations": scram(func(c *Scram) { c.Iterations = 4095 }),
		"too many":           scram(func(c *Scram) { c.Iterations = 16385 }),
		"no salt":            scram(func(c *Scram) { c.Salt = nil }),
		"short key":          scram(func(c *Scram) { c.StoredKey = c.StoredKey[:31] }),
		"no user":            scram(func(c *Scram) { c.User = "" }),
		"a user not there":   AlterScram{Delete: []ScramKey{{"u", ScramSHA256}}, Set: []Scram{credential("v", ScramSHA256)}},
		"a quota of nobody":  AlterQuota{Set: map[string]float64{QuotaProduce: 1}},
		"an unknown quota":   AlterQuota{User: &name, Set: map[string]float64{"disk": 1}},
		"nothing a second":   AlterQuota{User: &empty, Set: map[string]float64{QuotaFetch: 0}},
		"less than nothing":  AlterQuota{User: &empty, Set: map[string]float64{QuotaFetch: -1}},
		"infinitely much":    AlterQuota{User: &empty, Set: map[string]float64{QuotaFetch: math.Inf(1)}},
	} {
		next, _, err := New().Apply(c)
		if err == nil || len(next.Security().ACLs)+len(next.Security().Scram)+len(next.Security().Quotas) > 0 {
			t.Errorf("%s: %v, %+v", what, err, next.Security())
		}
		if err != nil && !errors.Is(err, record.ErrInvalidRequest) && !errors.Is(err, record.ErrBadCredential) && !errors.Is(err, record.ErrNoCredential) {
			t.Errorf("%s: %v wraps nothing that has a code", what, err)
		}
		if err != nil && strings.Contains(err.Error(), string(credential("u", ScramSHA256).StoredKey)) {
			t.Errorf("%s: a key is told", what)
		}
	}
}

// Adding what is there and removing what is not change nothing; in between the
// state keeps its order and survives being written and read.
func TestSecurityIsKept(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	part := func() *string {
		if rng.IntN(3) == 0 {
			return nil
		}
		s := pick("", "u", "v")
		return &s
	}
	s := New()
	acls := map[ACL]bool{}
	for range 2000 {
		var c Command
		switch rng.IntN(5) {
		case 0:
			a := anACL(pick("a", "b", "c"))
			a.Principal, a.Permission = pick("User:x", "User:y"), Permission(2+rng.IntN(2))
			acls[a] = true
			c = CreateACLs{ACLs: []ACL{a, a}}
		case 1:
			a := anACL(pick("a", "b", "c"))
			a.Principal, a.Permission = pick("User:x", "User:y"), Permission(2+rng.IntN(2))
			delete(acls, a)
			c = DeleteACLs{ACLs: []ACL{a}}
		case 2:
			c = AlterScram{Set: []Scram{credential(pick("u", "v"), ScramMechanism(1+rng.IntN(2)))}}
		case 3:
			c = AlterScram{Delete: []ScramKey{{pick("u", "v"), ScramMechanism(1 + rng.IntN(2))}}}
		case 4:
			q := AlterQuota{User: part(), Client: part()}
			if rng.IntN(2) == 0 {
				q.Set = map[string]float64{pick(QuotaProduce, QuotaFetch): rng.Float64() + 1}
			} else {
				q.Remove = []string{QuotaProduce, QuotaFetch}
			}
			c = q
		}
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = Decode(b); err != nil {
			t.Fatal(err)
		}
		before, _ := s.Encode()
		next, _, _ := s.Apply(c)
		if again, _ := s.Encode(); !bytes.Equal(before, again) {
			t.Fatalf("%T changed a state that was given out", c)
		}
		s = next
		kept, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = DecodeState(kept); err != nil {
			t.Fatalf("after %T: %v", c, err)
		}
		if len(s.Security().ACLs) != len(acls) {
			t.Fatalf("%d ACLs, want %d", len(s.Security().ACLs), len(acls))
		}
	}
}
