package catalog

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// Security is what the site knows of its users: who may do what, how they
// prove who they are, and how much they get. It is replaced as a whole, so that
// whoever keeps something made of it can tell by the pointer whether it is still
// the present one.
type Security struct {
	ACLs   []ACL   `json:",omitempty"` // in the order of compareACL, each once
	Scram  []Scram `json:",omitempty"` // by user and mechanism
	Quotas []Quota `json:",omitempty"` // by user and client
}

// ScramMechanism is a mechanism of SCRAM, in Kafka's numbers.
type ScramMechanism int8

// The mechanisms (RFC 7677 and its sibling).
const (
	ScramSHA256 ScramMechanism = 1
	ScramSHA512 ScramMechanism = 2
)

// Iterations of a credential's key derivation, as Kafka bounds them.
const (
	MinScramIterations = 4096
	MaxScramIterations = 16384
)

// Scram is a stored credential of RFC 5802: enough to verify a password, not to
// tell it.
type Scram struct {
	User       string
	Mechanism  ScramMechanism
	Iterations int32
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// Quota is the limits of a user, of a client ID, or of both together. Nil is
// none of the two, empty is the default: every one without a quota of its own.
type Quota struct {
	User   *string            `json:",omitempty"`
	Client *string            `json:",omitempty"`
	Limits map[string]float64 // by one of the quota keys
}

// What can be limited, by Kafka's names.
const (
	QuotaProduce  = "producer_byte_rate"       // bytes a second
	QuotaFetch    = "consumer_byte_rate"       // bytes a second
	QuotaRequest  = "request_percentage"       // of one core's time
	QuotaMutation = "controller_mutation_rate" // partitions a second, created or deleted
)

// AlterScram removes and sets credentials, all or none. To remove one that is
// not there is an error. Result: nil.
type AlterScram struct {
	Delete []ScramKey `json:",omitempty"`
	Set    []Scram    `json:",omitempty"`
}

// ScramKey names one credential.
type ScramKey struct {
	User      string
	Mechanism ScramMechanism
}

// AlterQuota sets and removes limits. Result: nil.
type AlterQuota struct {
	User   *string            `json:",omitempty"`
	Client *string            `json:",omitempty"`
	Set    map[string]float64 `json:",omitempty"`
	Remove []string           `json:",omitempty"`
}

func (AlterScram) kind() byte { return kindAlterScram }
func (AlterQuota) kind() byte { return kindAlterQuota }

// Security is who may do what at this site. It is never nil.
func (s *State) Security() *Security {
	if s.security == nil {
		return &noSecurity
	}
	return s.security
}

var noSecurity Security

// FindScram finds a user's credential for a mechanism.
func (x *Security) FindScram(user string, m ScramMechanism) (Scram, bool) {
	i, ok := slices.BinarySearchFunc(x.Scram, Scram{User: user, Mechanism: m}, compareScram)
	if !ok {
		return Scram{}, false
	}
	return x.Scram[i], true
}

func (s *State) withSecurity(x Security) *State {
	next := *s
	next.security = &x
	if len(x.ACLs) == 0 && len(x.Scram) == 0 && len(x.Quotas) == 0 {
		next.security = nil
	}
	return &next
}

func compareScram(a, b Scram) int {
	return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Mechanism, b.Mechanism))
}

// compareQuota puts what has no user first, and the default before names.
func compareQuota(a, b Quota) int {
	return cmp.Or(compareName(a.User, b.User), compareName(a.Client, b.Client))
}

func compareName(a, b *string) int {
	switch {
	case a == nil || b == nil:
		return cmp.Compare(btoi(a != nil), btoi(b != nil))
	}
	return cmp.Compare(*a, *b)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *State) alterScram(c AlterScram) (*State, any, error) {
	x := *s.Security()
	x.Scram = slices.Clone(x.Scram)
	for _, k := range c.Delete {
		i, found := slices.BinarySearchFunc(x.Scram, Scram{User: k.User, Mechanism: k.Mechanism}, compareScram)
		if !found {
			return nil, nil, fmt.Errorf("%w: user %q has none for mechanism %d", record.ErrNoCredential, k.User, k.Mechanism)
		}
		x.Scram = slices.Delete(x.Scram, i, i+1)
	}
	for _, one := range c.Set {
		if err := one.check(); err != nil {
			return nil, nil, err
		}
		i, found := slices.BinarySearchFunc(x.Scram, one, compareScram)
		if found {
			x.Scram[i] = one
			continue
		}
		x.Scram = slices.Insert(x.Scram, i, one)
	}
	return s.withSecurity(x), nil, nil
}

// check verifies a credential without ever repeating it.
func (c Scram) check() error {
	if err := checkName("user", c.User); err != nil {
		return err
	}
	size := 32
	if c.Mechanism == ScramSHA512 {
		size = 64
	}
	switch {
	case c.Mechanism != ScramSHA256 && c.Mechanism != ScramSHA512:
		return fmt.Errorf("%w: SCRAM mechanism %d, want 1 (SHA-256) or 2 (SHA-512)", record.ErrBadCredential, c.Mechanism)
	case c.Iterations < MinScramIterations || c.Iterations > MaxScramIterations:
		return fmt.Errorf("%w: %d iterations, want %d to %d", record.ErrBadCredential, c.Iterations, MinScramIterations, MaxScramIterations)
	case len(c.Salt) == 0 || len(c.Salt) > 1024:
		return fmt.Errorf("%w: the salt has %d bytes, want 1 to 1,024", record.ErrBadCredential, len(c.Salt))
	case len(c.StoredKey) != size || len(c.ServerKey) != size:
		return fmt.Errorf("%w: the keys have %d and %d bytes, want %d", record.ErrBadCredential, len(c.StoredKey), len(c.ServerKey), size)
	}
	return nil
}

func (s *State) alterQuota(c AlterQuota) (*State, any, error) {
	q := Quota{User: c.User, Client: c.Client}
	x := *s.Security()
	i, found := slices.BinarySearchFunc(x.Quotas, q, compareQuota)
	if found {
		q.Limits = maps.Clone(x.Quotas[i].Limits)
	} else {
		q.Limits = map[string]float64{}
	}
	for _, k := range c.Remove {
		delete(q.Limits, k)
	}
	maps.Copy(q.Limits, c.Set)
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	x.Quotas = slices.Clone(x.Quotas)
	switch {
	case found && len(q.Limits) == 0:
		x.Quotas = slices.Delete(x.Quotas, i, i+1)
	case found:
		x.Quotas[i] = q
	case len(q.Limits) > 0:
		x.Quotas = slices.Insert(x.Quotas, i, q)
	}
	return s.withSecurity(x), nil, nil
}

func (q Quota) check() error {
	if q.User == nil && q.Client == nil {
		return fmt.Errorf("%w: a quota is one of a user, of a client ID, or of both", record.ErrInvalidRequest)
	}
	for _, name := range []*string{q.User, q.Client} {
		if name != nil && *name != "" {
			if err := checkName("quota's user or client", *name); err != nil {
				return err
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(q.Limits)) {
		if !slices.Contains([]string{QuotaProduce, QuotaFetch, QuotaRequest, QuotaMutation}, k) {
			return fmt.Errorf("%w: no quota is called %q, want %s, %s, %s or %s", record.ErrInvalidRequest, k, QuotaProduce, QuotaFetch, QuotaRequest, QuotaMutation)
		}
		if v := q.Limits[k]; !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%w: quota %s is %v, want more than 0", record.ErrInvalidRequest, k, v)
		}
	}
	return nil
}

// check verifies what the rest of the package takes for granted.
func (x *Security) check() error {
	if len(x.ACLs)+len(x.Scram)+len(x.Quotas) == 0 {
		return fmt.Errorf("security settings without any")
	}
	for i, a := range x.ACLs {
		if i > 0 && compareACL(x.ACLs[i-1], a) >= 0 {
			return fmt.Errorf("ACL %d is out of order", i)
		}
		if err := a.check(); err != nil {
			return err
		}
	}
	for i, c := range x.Scram {
		if i > 0 && compareScram(x.Scram[i-1], c) >= 0 {
			return fmt.Errorf("credential %d is out of order", i)
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	for i, q := range x.Quotas {
		if i > 0 && compareQuota(x.Quotas[i-1], q) >= 0 || len(q.Limits) == 0 {
			return fmt.Errorf("quota %d is out of order or empty", i)
		}
		if err := q.check(); err != nil {
			return err
		}
	}
	return nil
}

// Equal reports whether two credentials are the same.
func (c Scram) Equal(o Scram) bool {
	return c.User == o.User && c.Mechanism == o.Mechanism && c.Iterations == o.Iterations &&
		bytes.Equal(c.Salt, o.Salt) && bytes.Equal(c.StoredKey, o.StoredKey) && bytes.Equal(c.ServerKey, o.ServerKey)
}
