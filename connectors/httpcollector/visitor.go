package httpcollector

import (
	"net/netip"
	"slices"
	"strings"
)

// clientOf finds the client's address. remote is the other end of the
// connection; forwarded the values of X-Forwarded-For, to which each proxy
// adds who it was called by. The last address that is not a trusted proxy is
// the client: what stands before it was written by the client itself.
func clientOf(remote string, forwarded []string, proxies []netip.Prefix) netip.Addr {
	client := parseAddr(remote)
	if !client.IsValid() || !within(client, proxies) {
		return client
	}
	for _, line := range slices.Backward(forwarded) {
		for rest, more := line, true; more; {
			var last string
			if i := strings.LastIndexByte(rest, ','); i >= 0 {
				rest, last = rest[:i], rest[i+1:]
			} else {
				last, more = rest, false
			}
			hop := parseAddr(strings.TrimSpace(last))
			if !hop.IsValid() { // not written by a proxy of ours
				return client
			}
			if client = hop; !within(client, proxies) {
				return client
			}
		}
	}
	return client
}

// parseAddr reads an address with or without a port; zero is none.
func parseAddr(s string) netip.Addr {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// truncated is the network of an address: enough for a country, too little
// for a person.
func truncated(a netip.Addr) netip.Addr {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// shownIP is what the envelope keeps of an address.
func (p privacy) shownIP(a netip.Addr) string {
	switch {
	case !a.IsValid() || p.ip == "none":
		return ""
	case p.ip == "truncate":
		return truncated(a).String()
	}
	return a.String()
}

// wish is what the browser's privacy signals ask for, by the config's rules.
func (p privacy) wish(gpc, dnt string) rule {
	out := keep
	if gpc == "1" {
		out = p.gpc
	}
	if dnt == "1" {
		out = max(out, p.dnt)
	}
	return out
}

// isBot tells user agents that say of themselves that they are no browsers in
// the hands of people.
func isBot(agent string) bool {
	agent = strings.ToLower(agent)
	for _, word := range [...]string{
		"bot", "crawl", "spider", "slurp", "headless", "phantomjs", "lighthouse", "pingdom", "uptime", "monitor",
		"facebookexternalhit", "preview", "curl/", "wget/", "python", "go-http-client", "java/", "okhttp", "axios", "libwww", "scrapy", "httpclient",
	} {
		if strings.Contains(agent, word) {
			return true
		}
	}
	return agent == ""
}
