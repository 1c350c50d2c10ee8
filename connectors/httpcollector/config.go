package httpcollector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// rule is what to do with the event of somebody who does not want to be tracked.
type rule uint8

const (
	keep rule = iota
	anonymise
	drop
)

// settings are the fields of the config in the form the server needs.
type settings struct {
	listen    string
	sites     map[string]*site // by key; empty lets everybody in
	wait      bool             // for the commit
	patience  time.Duration    // for it
	privacy   privacy
	cookie    cookie
	limits    limits
	cert, key string
}

// site is somebody who may send.
type site struct {
	name    string
	origins []string // none: all
	token   string
	secret  connectors.Secret
}

type privacy struct {
	proxies  []netip.Prefix
	ip       string
	gpc, dnt rule
	consent  bool // needed
	dropBots bool
}

type cookie struct {
	name, domain string
	age          time.Duration
	sameSite     http.SameSite
}

type limits struct {
	event, body, inFlight int64
	connections           int
	read, idle            time.Duration
}

func settingsOf(cfg connectors.Config) settings {
	s := settings{
		listen: cfg.String("listen"), sites: map[string]*site{},
		wait: cfg.String("ack") == "quorum", patience: cfg.Duration("ack_timeout"),
		privacy: privacy{
			ip: cfg.String("ip"), gpc: ruleOf(cfg.String("gpc")), dnt: ruleOf(cfg.String("dnt")),
			consent: cfg.Bool("require_consent"), dropBots: cfg.String("bots") == "drop",
		},
		limits: limits{
			event: cfg.Size("max_event"), body: cfg.Size("max_body"), inFlight: cfg.Size("max_in_flight"),
			connections: int(cfg.Int("max_connections")), read: cfg.Duration("read_timeout"), idle: cfg.Duration("idle_timeout"),
		},
		cert: cfg.Object("tls").String("cert"), key: cfg.Object("tls").String("key"),
	}
	for _, text := range cfg.Strings("trusted_proxies") {
		if p, err := connectors.ParseNetwork(text); err == nil { // it was checked with the field
			s.privacy.proxies = append(s.privacy.proxies, p)
		}
	}
	c := cfg.Object("cookie")
	s.cookie = cookie{name: c.String("name"), domain: c.String("domain"), age: c.Duration("max_age"), sameSite: http.SameSiteLaxMode}
	if c.String("same_site") == "none" {
		s.cookie.sameSite = http.SameSiteNoneMode
	}
	for _, one := range cfg.Objects("sites") {
		s.sites[one.String("key")] = &site{name: one.String("name"), origins: one.Strings("origins"), secret: one.Secret("token")}
	}
	return s
}

func ruleOf(text string) rule {
	switch text {
	case "drop":
		return drop
	case "anonymise":
		return anonymise
	}
	return keep
}

// Validate implements connectors.Source.
func (Source) Validate(_ context.Context, cfg connectors.Config, _ connectors.Probe) []connectors.Finding {
	var all []connectors.Finding
	add := func(field, message, hint string) {
		all = append(all, connectors.Finding{Field: field, Message: message, Hint: hint})
	}
	s := settingsOf(cfg)
	if s.limits.event > s.limits.body {
		add("max_event", fmt.Sprintf("%d bytes do not fit into max_body, %d", s.limits.event, s.limits.body), "raise max_body")
	}
	if s.limits.body > s.limits.inFlight {
		add("max_body", fmt.Sprintf("%d bytes do not fit into max_in_flight, %d", s.limits.body, s.limits.inFlight), "raise max_in_flight")
	}
	if cfg.Duration("group_commit") >= s.patience {
		add("group_commit", "no commit can come before ack_timeout", "make it a tenth of ack_timeout or less")
	}
	var keys []string
	for _, one := range cfg.Objects("sites") {
		if slices.Contains(keys, one.String("key")) {
			add("sites", fmt.Sprintf("key %q is there twice", one.String("key")), "")
		}
		keys = append(keys, one.String("key"))
	}
	if cfg.Has("cookie") && s.cookie.name == "" {
		add("cookie.name", "a cookie without a name is not set", "name it, or leave cookie out")
	}
	if !s.wait {
		all = append(all, connectors.Finding{
			Field: "ack", Message: "events that were answered with 202 are lost when the process ends", Hint: "ack: quorum", Warning: true,
		})
	}
	return all
}

func checkListen(v any) error {
	_, port, err := net.SplitHostPort(v.(string))
	if err != nil {
		return fmt.Errorf("%q is not an address with a port, want 0.0.0.0:8088 or :8088", v)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port, want 1 to 65535", port)
	}
	return nil
}

func checkName(v any) error {
	s := v.(string)
	if s == "" || len(s) > 100 {
		return errors.New("want 1 to 100 characters")
	}
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return fmt.Errorf("%q has the character %q, want letters, digits, dots, dashes and underscores", s, r)
		}
	}
	return nil
}

func checkCookie(v any) error {
	if s := v.(string); s != "" {
		return checkName(s)
	}
	return nil
}

func checkOrigins(v any) error {
	for _, o := range v.([]string) {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || o != strings.ToLower(u.Scheme+"://"+u.Host) {
			return fmt.Errorf("%q is not an origin, want https://shop.example in lower case, without a path", o)
		}
	}
	return nil
}
