package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// The other side: what a node answers those that fetch a log from it.

// offer is a leader's log at one moment.
type offer struct {
	member   uint64 // who leads
	term     uint64
	commit   uint64
	manifest storage.Manifest

	certain bool // it was asked for so; not sent
}

const offerVersion = 1

func (o *offer) encode() []byte {
	b := binary.AppendUvarint([]byte{offerVersion}, o.member)
	b = binary.AppendUvarint(b, o.term)
	b = binary.AppendUvarint(b, o.commit)
	return o.manifest.Append(b)
}

func decodeOffer(b []byte) (o offer, err error) {
	if len(b) == 0 || b[0] != offerVersion {
		return o, fmt.Errorf("%w: an offer of %d bytes does not begin with version %d, the one this node reads", record.ErrInvalidRequest, len(b), offerVersion)
	}
	b = b[1:]
	for _, v := range []*uint64{&o.member, &o.term, &o.commit} {
		n := 0
		if *v, n = binary.Uvarint(b); n <= 0 {
			return o, fmt.Errorf("%w: an offer is cut off", record.ErrInvalidRequest)
		}
		b = b[n:]
	}
	if o.manifest, err = storage.DecodeManifest(b); err != nil {
		return o, err
	}
	if o.commit > o.manifest.State.Index || NodeOf(o.member) <= 0 {
		return o, fmt.Errorf("%w: an offer of member %d with commit %d of a log that ends at %d", record.ErrInvalidRequest, o.member, o.commit, o.manifest.State.Index)
	}
	return o, nil
}

// offerRequest asks for a log. certain asks for one of which the leader is
// certain to lead still.
type offerRequest struct {
	id      storage.LogID
	certain bool
}

func (q offerRequest) encode() []byte {
	return storage.AppendLogID(appendBool([]byte{offerVersion}, q.certain), q.id)
}

func decodeOfferRequest(b []byte) (q offerRequest, err error) {
	if len(b) < 2 || b[0] != offerVersion || b[1] > 1 {
		return q, fmt.Errorf("%w: %d bytes that ask for no log", record.ErrInvalidRequest, len(b))
	}
	q.certain = b[1] == 1
	var rest []byte
	if q.id, rest, err = storage.DecodeLogID(b[2:]); err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind the log's name", record.ErrInvalidRequest, len(rest))
	}
	return q, err
}

// segmentRequest asks for a file from a byte on.
type segmentRequest struct {
	id   storage.LogID
	file storage.ManifestFile
	from int64
}

func (q segmentRequest) encode() []byte {
	b := storage.AppendLogID([]byte{offerVersion}, q.id)
	return binary.BigEndian.AppendUint64(q.file.Append(b), uint64(q.from))
}

func decodeSegmentRequest(b []byte) (q segmentRequest, err error) {
	if len(b) == 0 || b[0] != offerVersion {
		return q, fmt.Errorf("%w: %d bytes that ask for no file", record.ErrInvalidRequest, len(b))
	}
	if q.id, b, err = storage.DecodeLogID(b[1:]); err != nil {
		return q, err
	}
	if q.file, b, err = storage.DecodeManifestFile(b); err != nil {
		return q, err
	}
	if len(b) != 8 {
		return q, fmt.Errorf("%w: %d bytes behind a file's name, want 8", record.ErrInvalidRequest, len(b))
	}
	q.from = int64(binary.BigEndian.Uint64(b))
	return q, nil
}

// ErrUnknownMethod: Answer or Stream was asked for something that is not theirs.
var ErrUnknownMethod = errors.New("no such method")

// Answer answers another node's call about a log.
func (s *Set) Answer(ctx context.Context, method string, body []byte) ([]byte, error) {
	switch method {
	case methodOffer:
		q, err := decodeOfferRequest(body)
		if err != nil {
			return nil, err
		}
		r, err := s.find(q.id)
		if err != nil {
			return nil, err
		}
		o, err := r.offer(ctx, q.certain)
		if err != nil {
			return nil, r.wrap("offer the log", err)
		}
		return o.encode(), nil
	case methodCheck:
		q, err := decodeSegmentRequest(body)
		if err != nil {
			return nil, err
		}
		r, err := s.find(q.id)
		if err != nil {
			return nil, err
		}
		got, err := r.log.Scrub(ctx, q.file.Seq, nil)
		s.noteIndex(r, q.file.Seq, got)
		if err != nil {
			r.noteDamage()
		}
		return nil, err
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownMethod, method)
}

// Stream answers another node that reads a file of a log.
func (s *Set) Stream(_ context.Context, method string, body []byte, w io.Writer) error {
	if method != methodSegment {
		return fmt.Errorf("%w: %q", ErrUnknownMethod, method)
	}
	q, err := decodeSegmentRequest(body)
	if err != nil {
		return err
	}
	r, err := s.find(q.id)
	if err != nil {
		return err
	}
	f, err := r.log.OpenSegment(q.file, q.from)
	if err != nil {
		return err
	}
	s.copies.Add(1)
	defer s.copies.Add(-1)
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return errors.Join(err, f.Close())
}

func (s *Set) find(id storage.LogID) (*Replica, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.mu.byLog[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: %s is not on node %d", storage.ErrNotFound, id, NodeOf(s.cfg.Member))
}

// offer describes this replica's whole log, if it leads. A quarantined one
// never does.
func (r *Replica) offer(ctx context.Context, certain bool) (offer, error) {
	o := offer{member: r.set.cfg.Member}
	if v := r.view.Load(); v.role != RoleLeader {
		return o, v.mayServe()
	}
	if certain {
		// Whoever leads in a later term has the votes of a majority, one of whom
		// would not take this.
		if err := r.wait(ctx, &proposal{kind: propBarrier}); err != nil {
			return o, err
		}
	}
	var refused error
	err := r.ask(ctx, func(c *core) {
		var end storage.State
		if end, o.term, o.commit, refused = c.offer(); refused == nil && len(r.stalled) > 0 {
			refused = record.ErrDiskFull
		}
		if refused == nil {
			o.manifest, refused = r.log.Manifest(end)
		}
	})
	if err != nil {
		return offer{}, err
	}
	return o, refused
}
