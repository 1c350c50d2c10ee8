package mesh

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

// Config of a node's place in the mesh.
type Config struct {
	// ID is the node's name, unique in the whole mesh, and Site the name of
	// its datacenter. Both: 1 to 63 letters, digits, '.', '_' and '-'.
	ID, Site string

	// Kafka, Peer and Admin are the addresses (host:port) that others are
	// told; Version is the product's. Any may be empty. Together with ID and
	// Site they must fit into 512 bytes.
	Kafka, Peer, Admin, Version string

	// Expect is how many nodes this one waits for to begin a site with, and
	// Cluster the ID of the site that it belongs to, if it does (SetCluster).
	// Before that Nonce tells its data directory from every other. The nodes of
	// the site are told.
	Expect         int
	Cluster, Nonce string

	LAN, WAN Pool

	// Key encrypts and authenticates all gossip, TCP and UDP: 16, 24 or 32
	// bytes in base64 (AES-128, -192, -256), the same at all nodes. Empty:
	// gossip is in clear and anyone who reaches the port may join.
	Key string

	// SnapshotDir, unless empty, keeps the last known members, so that a
	// restarted node finds them again with no seed alive. It is created.
	SnapshotDir string

	Profile Profile
	Logger  *slog.Logger // nil: none
}

// Pool is where one pool is.
type Pool struct {
	// Bind is the host:port to listen on, TCP and UDP. An empty host is all
	// IPv4 interfaces, port 0 a free port.
	Bind string

	// Advertise is the host:port that others are told; empty: that of Bind, or
	// a private address of this machine if Bind is all interfaces.
	Advertise string

	// Join are host:port of nodes to find the pool by; this node's own may be
	// among them. Those that do not answer are tried again for ever.
	Join []string
}

// Profile sets all timings.
type Profile string

const (
	// ProfileDefault is Serf's LAN timings for the LAN pool and those of the
	// WAN for the WAN pool: a hard failure is seen in about 6 and 40 seconds.
	ProfileDefault Profile = ""
	// ProfileLocal is for all nodes on one machine: a hard failure is seen in
	// about 3 seconds, in both pools.
	ProfileLocal Profile = "local"
)

// Validate finds what is wrong without touching the network.
func (c Config) Validate() error {
	errs := []error{checkName("node id", c.ID), checkName("site", c.Site)}
	switch c.Profile {
	case ProfileDefault, ProfileLocal:
	default:
		errs = append(errs, fmt.Errorf("profile %q: want %q or none", c.Profile, ProfileLocal))
	}
	_, err := decodeKey(c.Key)
	errs = append(errs, err, c.LAN.validate("lan"), c.WAN.validate("wan"))
	return errors.Join(errs...)
}

func (p Pool) validate(name string) error {
	errs := []error{checkAddr(name+".addr", p.Bind, true)}
	if p.Advertise != "" {
		errs = append(errs, checkAddr(name+".advertise", p.Advertise, false))
	}
	for _, seed := range p.Join {
		errs = append(errs, checkAddr(name+".join", seed, false))
	}
	return errors.Join(errs...)
}

// maxName leaves room in the 512 bytes of tags.
const maxName = 63

func checkName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%s %q has %d characters, want 1 to %d", what, name, len(name), maxName)
	}
	if i := strings.IndexFunc(name, notNameRune); i >= 0 {
		return fmt.Errorf("%s %q: the character at position %d is not a letter, a digit, '.', '_' or '-'", what, name, i+1)
	}
	return nil
}

func notNameRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return r != '.' && r != '_' && r != '-'
}

// checkAddr wants host:port; a listener's host may be empty and its port 0.
func checkAddr(what, addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: want host:port", what, addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !listen {
		return fmt.Errorf("%s %q: the port must be a number from 1 to 65535", what, addr)
	}
	if host == "" && !listen {
		return fmt.Errorf("%s %q: the host is missing", what, addr)
	}
	return nil
}

// decodeKey returns nil for no key. Its error does not show the key.
func decodeKey(key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, errors.New("key: not base64; want 16, 24 or 32 random bytes in base64 (openssl rand -base64 32)")
	}
	switch len(b) {
	case 16, 24, 32:
		return b, nil
	}
	return nil, fmt.Errorf("key: %d bytes, want 16, 24 or 32 random bytes in base64 (openssl rand -base64 32)", len(b))
}
