package protocol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// find resolves what a request names a topic by: its ID from byID on, its name
// before. The error wraps record.ErrUnknownTopicID or record.ErrUnknownTopic.
func find(st *catalog.State, byID bool, name string, id record.TopicID) (*catalog.Topic, error) {
	if byID {
		if t, ok := st.TopicByID(id); ok {
			return t, nil
		}
		return nil, fmt.Errorf("%w: %s", record.ErrUnknownTopicID, id)
	}
	if t, ok := st.Topic(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q", record.ErrUnknownTopic, name)
}

// findToChange finds a topic that the client wants to change. This node's catalog
// may be behind: that there is no such topic is said only by one that is as new
// as the site's was when the request came, so that changes which clients make
// through different nodes have an order.
func (s *Server) findToChange(ctx context.Context, r *request, op catalog.Operation, byID bool, name string, id record.TopicID) (*catalog.Topic, error) {
	t, err := s.findFor(r, op, s.meta.State(), byID, name, id)
	if r.abreast || !errors.Is(err, record.ErrUnknownTopic) && !errors.Is(err, record.ErrUnknownTopicID) {
		return t, err
	}
	if err := catchUp(ctx, s.meta); err != nil {
		return nil, err
	}
	r.abreast = true
	return s.findFor(r, op, s.meta.State(), byID, name, id)
}

// findToCoordinate is findToChange for a coordinator, which may have come to this
// node before the newest of the catalog: to a client that commits, a topic that is
// not there is gone for good.
func (s *Server) findToCoordinate(ctx context.Context, r *request, op catalog.Operation, byID bool, name string, id record.TopicID) (*catalog.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := s.findToChange(ctx, r, op, byID, name, id)
	if errors.Is(err, record.ErrTimeout) {
		err = fmt.Errorf("%w: %v", errNoCoordinator, err)
	}
	return t, err
}

// catchUp waits until this node's catalog is as new as the site's is now.
func catchUp(ctx context.Context, meta Meta) error {
	// What is there already changes nothing, and is applied here after all that
	// was decided before.
	site, number := meta.State().Site()
	_, err := meta.Propose(ctx, catalog.SiteInit{Site: site, SiteID: number})
	return err
}

// serving finds a partition whose offsets and epochs can be told to a client.
func (s *Server) serving(t *catalog.Topic, p int32) (Partition, error) {
	log, err := s.partition(t, p)
	if err != nil {
		return nil, err
	}
	return log, log.Serving()
}

// partition finds a partition to read or append, which check by themselves
// whether they can.
func (s *Server) partition(t *catalog.Topic, p int32) (Partition, error) {
	if p < 0 || int(p) >= len(t.Partitions) {
		return nil, fmt.Errorf("%w: topic %q has partitions 0 to %d, not %d", record.ErrUnknownTopic, t.Name, len(t.Partitions)-1, p)
	}
	return s.parts.Partition(t.Name, p)
}

// checkEpoch compares the leader epoch that a client knows, -1 for none, with
// the partition's (KIP-320).
func checkEpoch(client, current int32) error {
	switch {
	case client < 0 || client == current:
		return nil
	case client < current:
		return fmt.Errorf("%w: %d, now %d", record.ErrFencedEpoch, client, current)
	}
	return fmt.Errorf("%w: %d, now %d", record.ErrUnknownEpoch, client, current)
}

// splitAddr cuts host:port; a missing host is that of the local address.
func splitAddr(addr string, local net.Addr) (string, int32) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 9092
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		if h, _, err := net.SplitHostPort(local.String()); err == nil {
			host = h
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return host, 9092
	}
	return host, int32(n)
}
