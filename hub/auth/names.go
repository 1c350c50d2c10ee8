package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// attributes are the names that RFC 2253 has for types of a distinguished
// name; all others are written as numbers, as Java writes them for Kafka.
var attributes = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// DistinguishedName is the subject of a certificate in the form of RFC 2253,
// the last part first: CN=alice,OU=data,O=Example. It is what Kafka makes
// principals of. The error says that the subject cannot be read.
func DistinguishedName(cert *x509.Certificate) (string, error) {
	// Values are read raw: crypto/x509 keeps of some kinds of text too little.
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(cert.RawSubject, &sets); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("the subject of the certificate cannot be read: %w", err)
	}
	parts := make([]string, 0, len(sets))
	for i := len(sets) - 1; i >= 0; i-- {
		var values []string
		for b := sets[i].Bytes; len(b) > 0; {
			var pair struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			rest, err := asn1.Unmarshal(b, &pair)
			if err != nil {
				return "", fmt.Errorf("the subject of the certificate cannot be read: %w", err)
			}
			values = append(values, attribute(pair.Type.String(), pair.Value))
			b = rest
		}
		parts = append(parts, strings.Join(values, "+"))
	}
	return strings.Join(parts, ","), nil
}

func attribute(oid string, v asn1.RawValue) string {
	name, known := attributes[oid]
	var text string
	if _, err := asn1.Unmarshal(v.FullBytes, &text); err != nil || !known {
		if !known {
			name = oid
		}
		return name + "=#" + hex.EncodeToString(v.FullBytes)
	}
	return name + "=" + escapeValue(text)
}

// escapeValue is RFC 2253, section 2.4.
func escapeValue(s string) string {
	var b strings.Builder
	for i, r := range s {
		edge := r == ' ' && (i == 0 || i == len(s)-1)
		if strings.ContainsRune(`,+"\<>;`, r) || edge || r == '#' && i == 0 {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// NameRules turn distinguished names into shorter ones, in the syntax of
// Kafka's ssl.principal.mapping.rules (KIP-371). The zero value leaves them.
type NameRules struct{ rules []nameRule }

type nameRule struct {
	pattern     *regexp.Regexp // nil: DEFAULT
	replacement string
	upper       bool
	lower       bool
}

var ruleForm = regexp.MustCompile(`^RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)$`)

// ParseNameRules reads rules of the form RULE:pattern/replacement/ with L or U
// behind it for lower or upper case, or DEFAULT.
func ParseNameRules(rules []string) (NameRules, error) {
	var out NameRules
	for _, text := range rules {
		text = strings.TrimSpace(text)
		if text == "DEFAULT" {
			out.rules = append(out.rules, nameRule{})
			continue
		}
		m := ruleForm.FindStringSubmatch(text)
		if m == nil {
			return out, fmt.Errorf("principal rule %q: want RULE:pattern/replacement/ with L or U behind it or not, or DEFAULT", text)
		}
		pattern, err := regexp.Compile("^(?:" + m[1] + ")$")
		if err != nil {
			return out, fmt.Errorf("principal rule %q: %w", text, err)
		}
		out.rules = append(out.rules, nameRule{pattern: pattern, replacement: groups.ReplaceAllString(m[2], "$${$1}"), upper: m[3] == "U", lower: m[3] == "L"})
	}
	return out, nil
}

// groups are references such as $1, which Go would read on into the letters
// that follow.
var groups = regexp.MustCompile(`\$(\d+)`)

// Apply gives the name of the first rule that matches. The error says that
// there is none, which refuses the client.
func (n NameRules) Apply(dn string) (string, error) {
	if len(n.rules) == 0 {
		return dn, nil
	}
	for _, r := range n.rules {
		if r.pattern == nil {
			return dn, nil
		}
		if !r.pattern.MatchString(dn) {
			continue
		}
		name := r.pattern.ReplaceAllString(dn, r.replacement)
		switch {
		case r.upper:
			name = strings.ToUpper(name)
		case r.lower:
			name = strings.ToLower(name)
		}
		return name, nil
	}
	return "", fmt.Errorf("%w: no principal rule matches the subject %q", ErrFailed, dn)
}

// OfCertificate is the principal of a verified client certificate.
func (n NameRules) OfCertificate(cert *x509.Certificate) (Principal, error) {
	dn, err := DistinguishedName(cert)
	if err != nil {
		return Principal{}, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	name, err := n.Apply(dn)
	if err == nil && name == "" {
		err = fmt.Errorf("%w: the subject %q gives an empty name", ErrFailed, dn)
	}
	return User(name), err
}
