package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// The strings are those of Java's X500Principal.getName, which Kafka uses.
func TestDistinguishedNames(t *testing.T) {
	for want, name := range map[string]pkix.Name{
		"CN=alice":                        {CommonName: "alice"},
		"CN=alice,OU=data,O=Example,C=DE": {CommonName: "alice", OrganizationalUnit: []string{"data"}, Organization: []string{"Example"}, Country: []string{"DE"}},
		`CN=Smith\, John\+x\;\"q\"`:       {CommonName: `Smith, John+x;"q"`},
		`CN=\#1\ `:                        {CommonName: "#1 "},
	} {
		raw, err := asn1.Marshal(name.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DistinguishedName(&x509.Certificate{RawSubject: raw}); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := DistinguishedName(&x509.Certificate{RawSubject: []byte{0x30, 0x80, 1}}); err == nil {
		t.Error("a subject that is none is read")
	}
}

func TestNameRules(t *testing.T) {
	for _, c := range []struct {
		rules []string
		want  string // empty: refused
	}{
		{nil, "CN=Alice,OU=Data,O=X"},
		{[]string{"DEFAULT"}, "CN=Alice,OU=Data,O=X"},
		{[]string{"RULE:^CN=(.*?),.*$/$1/"}, "Alice"},
		{[]string{"RULE:^CN=(.*?),.*$/$1/L"}, "alice"},
		{[]string{"RULE:^CN=(.*?),.*$/$1/U"}, "ALICE"},
		{[]string{"RULE:^CN=(.*?),OU=(.*?),O=(.*?)$/$1@$2/"}, "Alice@Data"},
		{[]string{"RULE:^CN=(.*?),.*$/$1x/"}, "Alicex"},
		{[]string{"RULE:^O=(.*)$/$1/", "RULE:^CN=A.*$/first/", "DEFAULT"}, "first"},
		{[]string{"RULE:^O=(.*)$/$1/"}, ""},
		{[]string{"RULE:Alice/x/"}, ""}, // a rule matches the whole name
	} {
		rules, err := ParseNameRules(c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rules.Apply("CN=Alice,OU=Data,O=X"); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.rules, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "RULE:x", "RULE:x/y", "RULE:(/y/", "RULE:x/y/Z", "rule:x/y/"} {
		if _, err := ParseNameRules([]string{bad}); err == nil {
			t.Errorf("rule %q is taken", bad)
		}
	}
}
