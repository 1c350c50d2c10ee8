package group

import (
	"bytes"
	"slices"
	"time"
)

// Protocol is one assignor that a member can work with, and what the leader
// needs to know of the member for it. Metadata is opaque here.
type Protocol struct {
	Name     string
	Metadata []byte
}

// member is one client of the group.
type member struct {
	id         string
	instance   string // "" for a dynamic member
	clientID   string
	clientHost string
	session    time.Duration
	rebalance  time.Duration
	protocols  []Protocol
	assignment []byte

	join     Ticket    // parked JoinGroup, 0 without
	sync     Ticket    // parked SyncGroup, 0 without
	synced   bool      // Completing: the sync of this generation has come
	isNew    bool      // has not been through a whole rebalance yet
	deadline time.Time // end of the session
}

// expires reports whether deadline counts: a parked member's client waits for
// us, not we for it; but a new member may not wait for ever.
func (m *member) expires() bool {
	return m.isNew || (m.join == 0 && m.sync == 0)
}

// alive begins the session again.
func (m *member) alive(now time.Time) { m.deadline = now.Add(m.session) }

func (m *member) supports(protocol string) bool {
	return hasProtocol(m.protocols, protocol)
}

func hasProtocol(ps []Protocol, name string) bool {
	return slices.ContainsFunc(ps, func(p Protocol) bool { return p.Name == name })
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// same reports whether a join brings nothing new.
func (m *member) same(protocols []Protocol) bool {
	return sameProtocols(m.protocols, protocols)
}

func sameProtocols(ps, qs []Protocol) bool {
	return slices.EqualFunc(ps, qs, func(a, b Protocol) bool { return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata) })
}

// add puts a new member into the group.
func (g *Group) add(m *member) {
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instance != "" {
		g.statics[m.instance] = m
	}
	if g.leader == "" {
		g.leader = m.id
	}
}

// remove takes a member out. The next generation elects another leader.
func (g *Group) remove(m *member) {
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	delete(g.byID, m.id)
	g.gone = g.gone || !m.isNew
	if m.instance != "" && g.statics[m.instance] == m {
		delete(g.statics, m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// find returns the member of a request and fences it: with an instance ID the
// member ID must be the one that the instance has now.
func (g *Group) find(id, instance string) (*member, error) {
	if instance != "" {
		m, ok := g.statics[instance]
		switch {
		case !ok:
			return nil, ErrUnknownMember
		case m.id != id:
			return nil, ErrFencedInstance
		}
		return m, nil
	}
	m, ok := g.byID[id]
	if !ok {
		return nil, ErrUnknownMember
	}
	return m, nil
}

// current is find for requests that belong to a generation.
func (g *Group) current(id, instance string, generation int32) (*member, error) {
	m, err := g.find(id, instance)
	if err == nil && generation != g.generation {
		return nil, ErrIllegalGen
	}
	return m, err
}
