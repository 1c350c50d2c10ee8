package connectors_test

import (
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestParseNetwork: networks and single addresses, in one form.
func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "::ffff:10.1.2.3": "10.1.2.3/32", "fd00::1/8": "fd00::/8",
		"fe80::1%eth0": "fe80::1/128", "10.0.0.0/33": "", "localhost": "", "": "",
	} {
		p, err := connectors.ParseNetwork(text)
		if (err != nil) != (want == "") || err == nil && p.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, p, err, want)
		}
		if err := connectors.CheckNetworks([]string{"10.0.0.0/8", text}); (err != nil) != (want == "") {
			t.Errorf("%q is checked as %v", text, err)
		}
	}
}
