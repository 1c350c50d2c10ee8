package auth

import (
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// Rules decide what principals may do, as Kafka's authorizer does. They are a
// value made of the catalog's ACLs: the same ACLs give the same decisions.
type Rules struct {
	supers map[Principal]bool
	open   bool // a resource without any ACL is everyone's
	kinds  map[catalog.ResourceType]*kindRules
}

// kindRules are the ACLs of one type of resource.
type kindRules struct {
	literal  map[string][]catalog.ACL
	prefixed map[string][]catalog.ACL
	lengths  []int // of the prefixes, each once
}

// NewRules makes Rules. Supers may do everything; with open, everyone may do
// anything to a resource for which there is no ACL at all (Kafka's
// allow.everyone.if.no.acl.found).
func NewRules(acls []catalog.ACL, supers []Principal, open bool) *Rules {
	r := &Rules{supers: map[Principal]bool{Internal(): true}, open: open, kinds: map[catalog.ResourceType]*kindRules{}}
	for _, p := range supers {
		r.supers[p] = true
	}
	for _, a := range acls {
		k := r.kinds[a.Resource]
		if k == nil {
			k = &kindRules{literal: map[string][]catalog.ACL{}, prefixed: map[string][]catalog.ACL{}}
			r.kinds[a.Resource] = k
		}
		if a.Pattern == catalog.PatternLiteral {
			k.literal[a.Name] = append(k.literal[a.Name], a)
			continue
		}
		k.prefixed[a.Name] = append(k.prefixed[a.Name], a)
		if i, found := slices.BinarySearch(k.lengths, len(a.Name)); !found {
			k.lengths = slices.Insert(k.lengths, i, len(a.Name))
		}
	}
	return r
}

// Allowed decides one operation on one resource. A deny that fits wins over
// every allow; an allow of an operation allows what that one implies.
func (r *Rules) Allowed(who Principal, host string, op catalog.Operation, kind catalog.ResourceType, name string) bool {
	if r.supers[who] {
		return true
	}
	found, allowed := false, false
	for acls := range r.kinds[kind].of(name) {
		for i := range acls {
			a := &acls[i]
			found = true
			if !fits(a, who, host) {
				continue
			}
			switch {
			case a.Permission == catalog.PermissionDeny && denies(a.Operation, op):
				return false
			case a.Permission == catalog.PermissionAllow && allows(a.Operation, op):
				allowed = true
			}
		}
	}
	return allowed || !found && r.open
}

// of yields the groups of ACLs that speak of name.
func (k *kindRules) of(name string) func(yield func([]catalog.ACL) bool) {
	return func(yield func([]catalog.ACL) bool) {
		if k == nil {
			return
		}
		if name != catalog.Wildcard && !yield(k.literal[name]) {
			return
		}
		if !yield(k.literal[catalog.Wildcard]) {
			return
		}
		for _, n := range k.lengths {
			if n > len(name) || !yield(k.prefixed[name[:n]]) {
				return
			}
		}
	}
}

func fits(a *catalog.ACL, who Principal, host string) bool {
	if a.Host != catalog.Wildcard && a.Host != host {
		return false
	}
	kind, name, _ := strings.Cut(a.Principal, ":")
	return kind == who.Type && (name == catalog.Wildcard || name == who.Name)
}

// denies: a deny means its own operation, or all of them; it implies nothing.
func denies(acl, op catalog.Operation) bool { return acl == op || acl == catalog.OpAll }

// allows: whoever may read, write, delete or alter may describe.
func allows(acl, op catalog.Operation) bool {
	switch {
	case denies(acl, op):
		return true
	case op == catalog.OpDescribe:
		return acl == catalog.OpRead || acl == catalog.OpWrite || acl == catalog.OpDelete || acl == catalog.OpAlter
	case op == catalog.OpDescribeConfigs:
		return acl == catalog.OpAlterConfigs
	}
	return false
}

// AllowedSomewhere decides whether there is any resource of a type on which
// the operation is allowed (Kafka's authorizeByResourceType): an allow that no
// deny covers as a whole.
func (r *Rules) AllowedSomewhere(who Principal, host string, op catalog.Operation, kind catalog.ResourceType) bool {
	if r.supers[who] {
		return true
	}
	k := r.kinds[kind]
	if k == nil {
		return r.open
	}
	if k.denied(k.literal[catalog.Wildcard], who, host, op) {
		return false
	}
	if r.open {
		return true
	}
	for name, acls := range k.literal {
		if k.grants(acls, who, host, op) && !k.denied(acls, who, host, op) && !k.covered(name, who, host, op) {
			return true
		}
	}
	for name, acls := range k.prefixed {
		if k.grants(acls, who, host, op) && !k.covered(name, who, host, op) {
			return true
		}
	}
	return false
}

func (k *kindRules) grants(acls []catalog.ACL, who Principal, host string, op catalog.Operation) bool {
	return slices.ContainsFunc(acls, func(a catalog.ACL) bool {
		return a.Permission == catalog.PermissionAllow && allows(a.Operation, op) && fits(&a, who, host)
	})
}

func (k *kindRules) denied(acls []catalog.ACL, who Principal, host string, op catalog.Operation) bool {
	return slices.ContainsFunc(acls, func(a catalog.ACL) bool {
		return a.Permission == catalog.PermissionDeny && denies(a.Operation, op) && fits(&a, who, host)
	})
}

// covered: a deny of a prefix covers every name that begins with it. The
// literal name * begins with nothing.
func (k *kindRules) covered(name string, who Principal, host string, op catalog.Operation) bool {
	if name == catalog.Wildcard {
		return false
	}
	for _, n := range k.lengths {
		if n <= len(name) && k.denied(k.prefixed[name[:n]], who, host, op) {
			return true
		}
	}
	return false
}

// Operations are those allowed on a resource, as the bits of their numbers:
// Kafka's authorized operations (KIP-430).
func (r *Rules) Operations(who Principal, host string, kind catalog.ResourceType, name string) int32 {
	var bits int32
	for _, op := range catalog.Operations(kind) {
		if r.Allowed(who, host, op, kind, name) {
			bits |= 1 << op
		}
	}
	return bits
}

// Filter selects ACLs as DescribeAcls and DeleteAcls do.
type Filter struct {
	Resource   catalog.ResourceType
	Name       *string // nil: any
	Pattern    catalog.Pattern
	Principal  *string
	Host       *string
	Operation  catalog.Operation
	Permission catalog.Permission
}

// Matches reports whether the filter selects an ACL. PatternMatch selects
// what would be asked for a resource of the filter's name.
func (f Filter) Matches(a catalog.ACL) bool {
	switch {
	case f.Resource != catalog.ResourceAny && f.Resource != a.Resource,
		f.Principal != nil && *f.Principal != a.Principal,
		f.Host != nil && *f.Host != a.Host,
		f.Operation != catalog.OpAny && f.Operation != a.Operation,
		f.Permission != catalog.PermissionAny && f.Permission != a.Permission:
		return false
	}
	switch f.Pattern {
	case catalog.PatternAny:
		return f.Name == nil || *f.Name == a.Name
	case catalog.PatternMatch:
		if f.Name == nil {
			return true
		}
		if a.Pattern == catalog.PatternPrefixed {
			return strings.HasPrefix(*f.Name, a.Name)
		}
		return a.Name == *f.Name || a.Name == catalog.Wildcard
	}
	return f.Pattern == a.Pattern && (f.Name == nil || *f.Name == a.Name)
}
