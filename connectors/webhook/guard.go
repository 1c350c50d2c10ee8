package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/entrepot-hub/entrepot/connectors"
)

// errAddress is wrapped by the refusal of an address.
var errAddress = errors.New("the address is not a public one")

// inside are networks besides netip's own classes that are not the internet:
// this network, shared address space, protocol assignments, benchmarks,
// reserved, and IPv6 forms that carry an IPv4 address in them.
var inside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("::/96"),
}

// admits tells whether the sink may connect to an address.
func admits(a netip.Addr, allowed []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	for _, p := range allowed {
		if p.Contains(a) {
			return true
		}
	}
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range inside {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// guard is called with the address that a connection is about to be made to,
// after all names were resolved: a name that changes its mind between a check
// and its use finds no gap.
func (s *settings) guard(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && admits(at.Addr(), s.allowed) {
		return nil
	}
	return connectors.Fatal(fmt.Errorf("%w: %s; list its network in allow_networks if the job may reach it", errAddress, address))
}
