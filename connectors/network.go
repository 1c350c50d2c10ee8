package connectors

import (
	"fmt"
	"net/netip"
)

// ParseNetwork reads a network such as 10.0.0.0/8, or an address alone.
func ParseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil // without the zone
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a network, want 10.0.0.0/8 or fd00::/8", text)
	}
	return p.Masked(), nil
}

// CheckNetworks is the Check of a field of KindStrings whose values are
// networks.
func CheckNetworks(v any) error {
	for _, text := range v.([]string) {
		if _, err := ParseNetwork(text); err != nil {
			return err
		}
	}
	return nil
}
