// Package quota shares out bytes and request time between principals and client
// IDs, as Kafka's quotas do, by pure token buckets: time comes in with each
// charge.
//
// Goroutines: none. A Book belongs to whoever guards it.
package quota

import (
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// Key is who shares one bucket for one kind of limit. A quota of a user is
// shared by all his clients, one of a client ID by all users who come with it,
// one of both by that pair.
type Key struct {
	User, Client string // empty: the quota is not of one
	Kind         string // catalog.QuotaProduce and so on
}

// Book keeps the limits and what was used of them.
type Book struct {
	limits  map[entity]map[string]float64
	buckets map[Key]*bucket
}

// entity is whose limits they are; a star is the default of its kind.
type entity struct{ user, client string }

const (
	none     = ""
	fallback = "\x00default" // no name is like it: names can be printed
)

// New makes a Book with these quotas and nothing used.
func New(quotas []catalog.Quota) *Book {
	b := &Book{buckets: map[Key]*bucket{}}
	b.Set(quotas)
	return b
}

// Set replaces the quotas; what was used stays used.
func (b *Book) Set(quotas []catalog.Quota) {
	b.limits = make(map[entity]map[string]float64, len(quotas))
	for _, q := range quotas {
		b.limits[entity{name(q.User), name(q.Client)}] = q.Limits
	}
}

func name(s *string) string {
	switch {
	case s == nil:
		return none
	case *s == "":
		return fallback
	}
	return *s
}

// Limit is the one that holds for a user and client, the most special first,
// in Kafka's order. False: there is none.
func (b *Book) Limit(user, client, kind string) (Key, float64, bool) {
	for _, e := range [...]struct {
		entity
		key Key
	}{
		{entity{user, client}, Key{user, client, kind}},
		{entity{user, fallback}, Key{user, client, kind}},
		{entity{user, none}, Key{user, none, kind}},
		{entity{fallback, client}, Key{user, client, kind}},
		{entity{fallback, fallback}, Key{user, client, kind}},
		{entity{fallback, none}, Key{user, none, kind}},
		{entity{none, client}, Key{none, client, kind}},
		{entity{none, fallback}, Key{none, client, kind}},
	} {
		if limit, ok := b.limits[e.entity][kind]; ok {
			return e.key, limit, true
		}
	}
	return Key{}, 0, false
}

// Charge takes an amount, of bytes, hundredths of a second of request time or
// partitions, and returns how long the client has to be quiet for its rate to be
// the limit. An amount of 0 asks.
func (b *Book) Charge(now time.Time, user, client, kind string, amount float64) time.Duration {
	key, limit, ok := b.Limit(user, client, kind)
	if !ok {
		return 0
	}
	x := b.buckets[key]
	if x == nil {
		b.forget(now)
		x = &bucket{level: limit * burst(kind), at: now}
		b.buckets[key] = x
	}
	return x.charge(now, limit, limit*burst(kind), amount)
}

// burst is how many seconds' worth may be used at once. Topics come in bursts:
// they have what Kafka gives them, eleven samples of a second (KIP-599).
func burst(kind string) float64 {
	if kind == catalog.QuotaMutation {
		return 11
	}
	return 1
}

// MaxThrottle is the longest that a client is ever told to be quiet. What it
// still owes is kept.
const MaxThrottle = 30 * time.Second

// maxBuckets is how many are kept before those that are full are forgotten: a
// client that calls itself something new each time must not fill the memory.
const maxBuckets = 10_000

// forget drops buckets that nobody has drawn from for so long that they are
// full again.
func (b *Book) forget(now time.Time) {
	if len(b.buckets) < maxBuckets {
		return
	}
	for k, x := range b.buckets {
		if now.Sub(x.at) > 2*MaxThrottle {
			delete(b.buckets, k)
		}
	}
	if len(b.buckets) >= maxBuckets {
		clear(b.buckets) // all of them are busy: begin anew rather than grow
	}
}

// bucket holds what may be used at once. It goes below zero.
type bucket struct {
	level float64
	at    time.Time
}

func (x *bucket) charge(now time.Time, limit, most, amount float64) time.Duration {
	if d := now.Sub(x.at); d > 0 {
		x.level = min(most, x.level+limit*d.Seconds())
		x.at = now
	}
	x.level -= amount
	if x.level >= 0 {
		return 0
	}
	wait := -x.level / limit
	if wait >= MaxThrottle.Seconds() {
		return MaxThrottle
	}
	return time.Duration(wait * float64(time.Second))
}
