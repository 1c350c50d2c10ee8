package auth

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

var (
	operations = map[string]catalog.Operation{
		"all": catalog.OpAll, "read": catalog.OpRead, "write": catalog.OpWrite, "create": catalog.OpCreate, "delete": catalog.OpDelete, "alter": catalog.OpAlter,
		"describe": catalog.OpDescribe, "describe_configs": catalog.OpDescribeConfigs, "alter_configs": catalog.OpAlterConfigs,
	}
	alice = User("alice")
)

// rule reads "allow|deny PRINCIPAL from HOST OPERATION NAME", a name that ends
// with ... being a prefix. The resource is a topic.
func rule(t testing.TB, text string) catalog.ACL {
	t.Helper()
	w := strings.Fields(text)
	a := catalog.ACL{Principal: w[1], Host: w[3], Operation: operations[w[4]], Resource: catalog.ResourceTopic, Pattern: catalog.PatternLiteral, Name: w[5], Permission: catalog.PermissionAllow}
	if a.Operation == 0 {
		t.Fatalf("no operation %q", w[4])
	}
	if w[0] == "deny" {
		a.Permission = catalog.PermissionDeny
	}
	if prefix, ok := strings.CutSuffix(w[5], "..."); ok {
		a.Pattern, a.Name = catalog.PatternPrefixed, prefix
	}
	return a
}

func rulesOf(t testing.TB, lines string, open bool) *Rules {
	t.Helper()
	var acls []catalog.ACL
	for line := range strings.SplitSeq(lines, ";") {
		if line = strings.TrimSpace(line); line != "" {
			acls = append(acls, rule(t, line))
		}
	}
	return NewRules(acls, []Principal{User("root")}, open)
}

// The cases are those of Kafka's documentation and KIP-290 (prefixes), asked
// for alice from 10.0.0.1 and topic orders.paid unless they say otherwise.
func TestDecisions(t *testing.T) {
	for _, c := range []struct {
		what, acls, op string
		want           bool
	}{
		{"no ACL at all", "", "read", false},
		{"her own", "allow User:alice from * read orders.paid", "read", true},
		{"somebody else's", "allow User:bob from * read orders.paid", "read", false},
		{"everybody's", "allow User:* from * read orders.paid", "read", true},
		{"a name that only begins like hers", "allow User:alic from * read orders.paid", "read", false},
		{"another type of principal", "allow Group:alice from * read orders.paid", "read", false},
		{"another operation", "allow User:alice from * write orders.paid", "read", false},
		{"all operations", "allow User:alice from * all orders.paid", "alter_configs", true},
		{"another topic", "allow User:alice from * read orders.sent", "read", false},
		{"wildcard name", "allow User:alice from * read *", "read", true},
		{"a literal is no prefix", "allow User:alice from * read orders.", "read", false},
		{"prefix", "allow User:alice from * read orders....", "read", true},
		{"the name itself as a prefix", "allow User:alice from * read orders.paid...", "read", true},
		{"a longer prefix", "allow User:alice from * read orders.paid.x...", "read", false},
		{"a prefix of something else", "allow User:alice from * read order-...", "read", false},
		{"a star as a prefix is a star", "allow User:alice from * read *...", "read", false},
		{"her host", "allow User:alice from 10.0.0.1 read orders.paid", "read", true},
		{"another host", "allow User:alice from 10.0.0.2 read orders.paid", "read", false},
		{"deny wins", "allow User:alice from * read orders.paid; deny User:alice from * read orders.paid", "read", false},
		{"deny wins, whatever comes first", "deny User:alice from * read orders.paid; allow User:alice from * read orders.paid", "read", false},
		{"a deny of everybody wins over her own", "allow User:alice from * read orders.paid; deny User:* from * read orders.paid", "read", false},
		{"a deny of a prefix wins over a literal", "allow User:alice from * read orders.paid; deny User:alice from * read ord...", "read", false},
		{"a deny of every name wins", "allow User:alice from * read orders.paid; deny User:alice from * read *", "read", false},
		{"a deny of all operations", "allow User:alice from * all *; deny User:alice from * all orders.paid", "describe", false},
		{"a deny from another host", "allow User:alice from * read orders.paid; deny User:alice from 10.0.0.2 read orders.paid", "read", true},
		{"a deny of another operation", "allow User:alice from * all orders.paid; deny User:alice from * write orders.paid", "read", true},
		{"read implies describe", "allow User:alice from * read orders.paid", "describe", true},
		{"write implies describe", "allow User:alice from * write orders.paid", "describe", true},
		{"delete implies describe", "allow User:alice from * delete orders.paid", "describe", true},
		{"alter implies describe", "allow User:alice from * alter orders.paid", "describe", true},
		{"create does not", "allow User:alice from * create orders.paid", "describe", false},
		{"alter_configs implies describe_configs", "allow User:alice from * alter_configs orders.paid", "describe_configs", true},
		{"alter_configs does not imply describe", "allow User:alice from * alter_configs orders.paid", "describe", false},
		{"alter does not imply describe_configs", "allow User:alice from * alter orders.paid", "describe_configs", false},
		{"describe implies nothing", "allow User:alice from * describe orders.paid", "read", false},
		{"a deny of describe does not deny read", "allow User:alice from * all orders.paid; deny User:alice from * describe orders.paid", "read", true},
		{"a deny of describe wins over what read implies", "allow User:alice from * read orders.paid; deny User:alice from * describe orders.paid", "describe", false},
		{"a deny of read does not deny describe", "allow User:alice from * write orders.paid; deny User:alice from * read orders.paid", "describe", true},
	} {
		if got := rulesOf(t, c.acls, false).Allowed(alice, "10.0.0.1", operations[c.op], catalog.ResourceTopic, "orders.paid"); got != c.want {
			t.Errorf("%s: %s with %q: %v, want %v", c.what, c.op, c.acls, got, c.want)
		}
	}
}

func TestSupersAndOpenResources(t *testing.T) {
	r := rulesOf(t, "deny User:* from * all *", false)
	for _, p := range []Principal{User("root"), Internal()} {
		if !r.Allowed(p, "h", catalog.OpWrite, catalog.ResourceTopic, "t") {
			t.Errorf("%s is refused", p)
		}
	}
	if r.Allowed(User("entrepot"), "h", catalog.OpWrite, catalog.ResourceTopic, "t") {
		t.Error("a user is taken for the hub itself by his name")
	}
	open := rulesOf(t, "allow User:bob from * read taken; deny User:bob from * read closed...", true)
	for name, want := range map[string]bool{"free": true, "taken": false, "closed.x": false} {
		if got := open.Allowed(alice, "h", catalog.OpRead, catalog.ResourceTopic, name); got != want {
			t.Errorf("%s, open where there is no ACL: %v, want %v", name, got, want)
		}
	}
	if open.Allowed(alice, "h", catalog.OpRead, catalog.ResourceGroup, "taken") != true {
		t.Error("an ACL of a topic closes the group of the same name")
	}
}

func TestAllowedSomewhere(t *testing.T) {
	for acls, want := range map[string]bool{
		"":                                   false,
		"allow User:alice from * write t":    true,
		"allow User:alice from * write t...": true,
		"allow User:alice from * all *":      true,
		"allow User:alice from * read t":     false,
		"allow User:alice from * write *; deny User:alice from * write *":                              false,
		"allow User:alice from * write t; deny User:alice from * write t":                              false,
		"allow User:alice from * write t; deny User:alice from * write u":                              true,
		"allow User:alice from * write tt...; deny User:alice from * write t...":                       false,
		"allow User:alice from * write t...; deny User:alice from * write tt...":                       true,
		"allow User:alice from * write t; allow User:alice from * write u; deny User:* from * write t": true,
		"allow User:bob from * write t":                                                                false,
	} {
		if got := rulesOf(t, acls, false).AllowedSomewhere(alice, "h", catalog.OpWrite, catalog.ResourceTopic); got != want {
			t.Errorf("%q: %v, want %v", acls, got, want)
		}
	}
}

// The index decides as a reading of all ACLs does, one after the other.
func TestDecisionsAgreeWithTheRules(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	for range 20_000 {
		var acls []catalog.ACL
		for range rng.IntN(5) {
			acls = append(acls, rule(t, strings.Join([]string{
				pick("allow", "allow", "deny"), pick("User:alice", "User:bob", "User:*"), "from", pick("*", "h", "i"),
				pick("all", "read", "write", "describe", "alter"), pick("a", "ab", "abc", "*", "a...", "ab...", "abc..."),
			}, " ")))
		}
		name, op, open := pick("a", "ab", "abc", "abcd", "b"), operations[pick("read", "write", "describe")], rng.IntN(2) == 0
		if got, want := NewRules(acls, nil, open).Allowed(alice, "h", op, catalog.ResourceTopic, name), plainly(acls, open, op, name); got != want {
			t.Fatalf("%v on %s with open %v: %v, want %v\n%+v", op, name, open, got, want, acls)
		}
	}
}

// plainly is the definition, for alice on host h.
func plainly(acls []catalog.ACL, open bool, op catalog.Operation, name string) bool {
	implies := []catalog.Operation{op, catalog.OpAll}
	if op == catalog.OpDescribe {
		implies = append(implies, catalog.OpRead, catalog.OpWrite, catalog.OpDelete, catalog.OpAlter)
	}
	found, allowed, denied := false, false, false
	for _, a := range acls {
		about := a.Name == name || a.Pattern == catalog.PatternLiteral && a.Name == "*" || a.Pattern == catalog.PatternPrefixed && strings.HasPrefix(name, a.Name)
		if a.Pattern == catalog.PatternLiteral && a.Name != "*" {
			about = a.Name == name
		}
		found = found || about
		mine := (a.Principal == "User:alice" || a.Principal == "User:*") && (a.Host == "*" || a.Host == "h")
		if !about || !mine {
			continue
		}
		if a.Permission == catalog.PermissionDeny {
			denied = denied || a.Operation == op || a.Operation == catalog.OpAll
		} else {
			allowed = allowed || slices.Contains(implies, a.Operation)
		}
	}
	return !denied && (allowed || !found && open)
}

func TestFilters(t *testing.T) {
	text := func(s string) *string { return &s }
	literal, prefixed, star := rule(t, "allow User:alice from * read orders"), rule(t, "deny User:bob from h write ord..."), rule(t, "allow User:* from * all *")
	every := Filter{Resource: catalog.ResourceAny, Pattern: catalog.PatternAny, Operation: catalog.OpAny, Permission: catalog.PermissionAny}
	with := func(change func(*Filter)) Filter { f := every; change(&f); return f }
	for _, c := range []struct {
		what string
		f    Filter
		want []bool // literal, prefixed, star
	}{
		{"everything", every, []bool{true, true, true}},
		{"a name", with(func(f *Filter) { f.Name = text("orders") }), []bool{true, false, false}},
		{"what matches a name", with(func(f *Filter) { f.Name, f.Pattern = text("orders"), catalog.PatternMatch }), []bool{true, true, true}},
		{"prefixes of a name", with(func(f *Filter) { f.Name, f.Pattern = text("ord"), catalog.PatternPrefixed }), []bool{false, true, false}},
		{"literals", with(func(f *Filter) { f.Pattern = catalog.PatternLiteral }), []bool{true, false, true}},
		{"of bob", with(func(f *Filter) { f.Principal = text("User:bob") }), []bool{false, true, false}},
		{"from h", with(func(f *Filter) { f.Host = text("h") }), []bool{false, true, false}},
		{"denies", with(func(f *Filter) { f.Permission = catalog.PermissionDeny }), []bool{false, true, false}},
		{"reads", with(func(f *Filter) { f.Operation = catalog.OpRead }), []bool{true, false, false}},
		{"of groups", with(func(f *Filter) { f.Resource = catalog.ResourceGroup }), []bool{false, false, false}},
	} {
		for i, a := range []catalog.ACL{literal, prefixed, star} {
			if got := c.f.Matches(a); got != c.want[i] {
				t.Errorf("%s selects %+v: %v, want %v", c.what, a, got, c.want[i])
			}
		}
	}
}
