package stream

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// landed says where an output is that an earlier run has written.
type landed struct {
	outcome outcome
	at      record.TopicPartition
	offset  int64
}

// attach makes this run the owner of its split before it writes the first
// record of it. In this order: take the transactional ID over, which fences
// former owners and decides what they had begun; read the checkpoint, which
// nobody else can move now; look for outputs beyond it. A split of which
// nothing comes costs nothing of this.
func (s *splitRun) attach() error {
	if s.txn != nil {
		return nil
	}
	limits := map[string]int32{s.spec.Topic: s.topicLimit, s.letters.tp.Topic: s.letters.limit}
	txn, err := openTransaction(s.hard, s.cluster, transactionID(s.spec.Name, s.split.ID), limits, s.budget)
	if err != nil {
		return s.write(err)
	}
	if err := s.lookBack(txn.before); err != nil {
		txn.closed()
		return err
	}
	s.txn = txn
	txn.raises = txn.before.follows(s.by)
	if s.known {
		return nil
	}
	// The first checkpoint comes before the first output, so that there is
	// always a place to look from.
	return s.save(false)
}

// lookBack reads the checkpoint and what lies beyond it. before is the producer
// that was found: if the checkpoint's own transaction was the last one of the
// split, nothing does, and the topic, which may be long, is not read.
func (s *splitRun) lookBack(before producer) error {
	if err := s.store.load(s.soft); err != nil {
		return s.write(err)
	}
	opened := s.base.Position
	if err := s.restore(); err != nil {
		return err
	}
	if s.done || s.base.Position.Compare(opened) != 0 {
		return errMoved
	}
	bounds, err := spans(s.soft, s.admin, s.spec.Topic, s.letters.tp.Topic)
	if err != nil {
		return s.write(err)
	}
	if s.known && !before.follows(s.by) {
		if err := s.scanOutputs(bounds); err != nil {
			return s.write(fmt.Errorf("look for what an earlier run has written: %w", err))
		}
	}
	if len(s.seen) > 0 {
		return nil
	}
	// Nothing lies beyond the checkpoint: a later run looks from here.
	for tp, b := range bounds {
		s.base.Ends[tp] = max(s.base.Ends[tp], b.end)
	}
	maps.Copy(s.next.Ends, s.base.Ends)
	return nil
}

// restore takes over the checkpoint as the store has it.
func (s *splitRun) restore() error {
	var ck sourceCheckpoint
	known, err := s.store.get(s.key, &ck)
	if err != nil {
		return err
	}
	s.known, s.done, s.where, s.by = known, ck.Done, ck.Where, ck.Producer
	s.base = ck.progress().clone()
	s.next = s.base.clone()
	s.seen, s.unsaved = nil, 0
	return s.restoreIDs()
}

// restoreIDs takes over the message IDs of a queue.
func (s *splitRun) restoreIDs() error {
	q, ok := s.spec.Source.(connectors.Queue)
	if !ok {
		return nil
	}
	s.ids = newDedup(q.Dedup(s.spec.Config))
	var all []dedupCheckpoint
	for _, key := range s.store.keys(dedupPrefix(s.spec.Name, s.split.ID)) {
		if strings.ContainsRune(key[len(dedupPrefix(s.spec.Name, s.split.ID)):], '/') {
			continue // of a split whose name begins with this one's
		}
		var ck dedupCheckpoint
		if _, err := s.store.get(key, &ck); err != nil {
			return err
		}
		all = append(all, ck)
	}
	return s.ids.load(all)
}

// scanOutputs notes which outputs are in although the checkpoint does not
// cover them. Those of transactions that were aborted are not.
func (s *splitRun) scanOutputs(bounds map[record.TopicPartition]span) error {
	ranges := map[record.TopicPartition]span{}
	for tp, b := range bounds {
		ranges[tp] = span{max(s.base.Ends[tp], b.start), b.end}
	}
	_, err := s.cluster.scanDecided(s.soft, "entrepot-recover-"+s.spec.Name, ranges, s.recognise)
	return err
}

// recognise notes a record that this split has written.
func (s *splitRun) recognise(rec *kgo.Record) {
	for _, h := range rec.Headers {
		if h.Key != HeaderSource {
			continue
		}
		name := string(h.Value)
		if !strings.HasPrefix(name, s.prefix) {
			return
		}
		if s.ids != nil {
			s.remember(name[len(s.prefix):])
			return
		}
		if !s.beyond(name[len(s.prefix):]) {
			return
		}
		l := landed{produced, record.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}, rec.Offset}
		if rec.Topic == s.letters.tp.Topic {
			l.outcome = dead
		}
		if s.seen == nil {
			s.seen = map[string]landed{}
		}
		s.seen[name] = l
		return
	}
}

// beyond tells whether the last part of a source name is of a message after
// the checkpoint.
func (s *splitRun) beyond(rest string) bool {
	p, err := base64.RawURLEncoding.DecodeString(rest)
	return err == nil && connectors.Position(p).Compare(s.base.Position) > 0
}

// remember takes up the ID of a message that is in although no chunk has it.
func (s *splitRun) remember(rest string) {
	text, isID := strings.CutPrefix(rest, idMark)
	id, err := base64.RawURLEncoding.DecodeString(text)
	if now := time.Now(); isID && err == nil && !s.ids.has(id, now) {
		s.ids.add(id, now)
	}
}
