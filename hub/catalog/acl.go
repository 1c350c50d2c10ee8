package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/record"
)

// ResourceType is what an ACL is about, in Kafka's numbers.
type ResourceType int8

// The resource types. Delegation tokens and users are kept for completeness:
// nothing asks for them.
const (
	ResourceAny             ResourceType = 1 // of filters
	ResourceTopic           ResourceType = 2
	ResourceGroup           ResourceType = 3
	ResourceCluster         ResourceType = 4
	ResourceTransactionalID ResourceType = 5
	ResourceDelegationToken ResourceType = 6
	ResourceUser            ResourceType = 7
)

// ClusterName is the only name of a resource of type ResourceCluster.
const ClusterName = "kafka-cluster"

// Operation is what an ACL allows or denies, in Kafka's numbers.
type Operation int8

// The operations.
const (
	OpAny             Operation = 1 // of filters
	OpAll             Operation = 2
	OpRead            Operation = 3
	OpWrite           Operation = 4
	OpCreate          Operation = 5
	OpDelete          Operation = 6
	OpAlter           Operation = 7
	OpDescribe        Operation = 8
	OpClusterAction   Operation = 9
	OpDescribeConfigs Operation = 10
	OpAlterConfigs    Operation = 11
	OpIdempotentWrite Operation = 12
	OpCreateTokens    Operation = 13
	OpDescribeTokens  Operation = 14
	OpTwoPhaseCommit  Operation = 15
)

// Pattern says how an ACL's name stands for names of resources (KIP-290).
type Pattern int8

// The patterns. The literal name "*" stands for every name.
const (
	PatternAny      Pattern = 1 // of filters
	PatternMatch    Pattern = 2 // of filters
	PatternLiteral  Pattern = 3
	PatternPrefixed Pattern = 4
)

// Permission is the effect of an ACL.
type Permission int8

// The permissions.
const (
	PermissionAny   Permission = 1 // of filters
	PermissionDeny  Permission = 2
	PermissionAllow Permission = 3
)

// Wildcard is any principal after "User:", any host, and any literal name.
const Wildcard = "*"

// ACL allows or denies one operation on resources to a principal.
type ACL struct {
	Principal  string // TYPE:NAME, such as User:alice or User:*
	Host       string // an IP address, or *
	Resource   ResourceType
	Pattern    Pattern
	Name       string
	Operation  Operation
	Permission Permission
}

// CreateACLs adds ACLs; those that are there already stay. Result: nil.
type CreateACLs struct{ ACLs []ACL }

// DeleteACLs removes ACLs; those that are not there are no error. Result: nil.
type DeleteACLs struct{ ACLs []ACL }

func (CreateACLs) kind() byte { return kindCreateACLs }
func (DeleteACLs) kind() byte { return kindDeleteACLs }

func compareACL(a, b ACL) int {
	return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host),
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Permission, b.Permission))
}

// MaxACLs is the most ACLs that a site keeps.
const MaxACLs = 100_000

func (s *State) createACLs(c CreateACLs) (*State, any, error) {
	x := *s.Security()
	x.ACLs = slices.Clone(x.ACLs)
	for _, a := range c.ACLs {
		if err := a.check(); err != nil {
			return nil, nil, err
		}
		if i, found := slices.BinarySearchFunc(x.ACLs, a, compareACL); !found {
			x.ACLs = slices.Insert(x.ACLs, i, a)
		}
	}
	if len(x.ACLs) > MaxACLs {
		return nil, nil, fmt.Errorf("%w: the site would have %d ACLs, the most is %d", record.ErrInvalidRequest, len(x.ACLs), MaxACLs)
	}
	return s.withSecurity(x), nil, nil
}

func (s *State) deleteACLs(c DeleteACLs) (*State, any, error) {
	x := *s.Security()
	x.ACLs = slices.Clone(x.ACLs)
	for _, a := range c.ACLs {
		if i, found := slices.BinarySearchFunc(x.ACLs, a, compareACL); found {
			x.ACLs = slices.Delete(x.ACLs, i, i+1)
		}
	}
	return s.withSecurity(x), nil, nil
}

// check verifies one ACL as it is stored: no filters in it.
func (a ACL) check() error {
	kind, name, ok := strings.Cut(a.Principal, ":")
	switch {
	case !ok || kind == "" || name == "" || len(a.Principal) > 2*maxName || !utf8.ValidString(a.Principal):
		return fmt.Errorf("%w: principal %q of an ACL, want TYPE:NAME such as User:alice", record.ErrInvalidRequest, a.Principal)
	case a.Host == "" || len(a.Host) > maxName || !utf8.ValidString(a.Host):
		return fmt.Errorf("%w: host %q of an ACL, want an IP address or *", record.ErrInvalidRequest, a.Host)
	case a.Resource < ResourceTopic || a.Resource > ResourceUser:
		return fmt.Errorf("%w: resource type %d of an ACL, want 2 to 7", record.ErrInvalidRequest, a.Resource)
	case a.Pattern != PatternLiteral && a.Pattern != PatternPrefixed:
		return fmt.Errorf("%w: pattern type %d of an ACL, want literal or prefixed", record.ErrInvalidRequest, a.Pattern)
	case a.Name == "" || len(a.Name) > 2*maxName || !utf8.ValidString(a.Name):
		return fmt.Errorf("%w: resource name %q of an ACL, want a name of 1 to %d bytes", record.ErrInvalidRequest, a.Name, 2*maxName)
	case a.Resource == ResourceCluster && a.Name != ClusterName && a.Name != Wildcard:
		return fmt.Errorf("%w: the cluster of an ACL is called %q, not %q", record.ErrInvalidRequest, ClusterName, a.Name)
	case a.Operation < OpAll || a.Operation > OpTwoPhaseCommit:
		return fmt.Errorf("%w: operation %d of an ACL, want 2 to 15", record.ErrInvalidRequest, a.Operation)
	case a.Permission != PermissionAllow && a.Permission != PermissionDeny:
		return fmt.Errorf("%w: permission %d of an ACL, want allow or deny", record.ErrInvalidRequest, a.Permission)
	}
	if !slices.Contains(Operations(a.Resource), a.Operation) && a.Operation != OpAll {
		return fmt.Errorf("%w: operation %d means nothing for resource type %d", record.ErrInvalidRequest, a.Operation, a.Resource)
	}
	return nil
}

// Operations are those that mean something for a type of resource, besides
// OpAll (Kafka's AclEntry.supportedOperations).
func Operations(r ResourceType) []Operation {
	switch r {
	case ResourceTopic:
		return []Operation{OpRead, OpWrite, OpCreate, OpDescribe, OpDelete, OpAlter, OpDescribeConfigs, OpAlterConfigs}
	case ResourceGroup:
		return []Operation{OpRead, OpDescribe, OpDelete, OpDescribeConfigs, OpAlterConfigs}
	case ResourceCluster:
		return []Operation{OpCreate, OpClusterAction, OpDescribeConfigs, OpAlterConfigs, OpIdempotentWrite, OpAlter, OpDescribe}
	case ResourceTransactionalID:
		return []Operation{OpDescribe, OpWrite, OpTwoPhaseCommit}
	case ResourceDelegationToken:
		return []Operation{OpDescribe}
	case ResourceUser:
		return []Operation{OpCreateTokens, OpDescribeTokens}
	}
	return nil
}
