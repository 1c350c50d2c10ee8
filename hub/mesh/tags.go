package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
)

// Tags, as gossip carries them. The node's ID is Serf's own name of it.
const (
	tagPool    = "pool" // keeps the pools apart when a seed is of the other one
	tagSite    = "site"
	tagKafka   = "kafka"
	tagPeer    = "peer"
	tagAdmin   = "admin"
	tagVersion = "version"
	tagWAN     = "wan"     // LAN pool only: the node's address in the WAN pool
	tagExpect  = "expect"  // LAN pool only: nodes of a new site
	tagCluster = "cluster" // LAN pool only: ID of the site that the node belongs to
	tagNonce   = "nonce"   // LAN pool only, while it belongs to none: of its data directory
)

// tags of this node in a pool; empty ones are left out.
func (c Config) tags(pool, wanAddr string) map[string]string {
	tags := map[string]string{
		tagPool: pool, tagSite: c.Site, tagKafka: c.Kafka, tagPeer: c.Peer,
		tagAdmin: c.Admin, tagVersion: c.Version, tagWAN: wanAddr,
	}
	if pool == poolLAN && c.Expect > 0 {
		tags[tagExpect] = strconv.Itoa(c.Expect)
	}
	if pool == poolLAN {
		tags[tagCluster], tags[tagNonce] = c.Cluster, c.Nonce
	}
	maps.DeleteFunc(tags, func(_, v string) bool { return v == "" })
	return tags
}

// checkTags refuses tags that one gossip message cannot carry.
func checkTags(tags map[string]string) error {
	size := tagsSize(tags)
	if size <= memberlist.MetaMaxSize {
		return nil
	}
	var each []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		each = append(each, fmt.Sprintf("%s has %d", k, len(tags[k])))
	}
	return fmt.Errorf("the node's addresses and version take %d bytes of gossip, the most is %d: %s; shorten them",
		size, memberlist.MetaMaxSize, strings.Join(each, ", "))
}

// tagsSize is the size of Serf's form: one byte that says "tags", then a
// MessagePack map of strings (raw, as its older form has them).
func tagsSize(tags map[string]string) int {
	n := 2 // at most 15 entries: one byte of map header
	for k, v := range tags {
		n += rawSize(k) + rawSize(v)
	}
	return n
}

func rawSize(s string) int {
	if len(s) <= 31 {
		return 1 + len(s)
	}
	return 3 + len(s)
}
