package registry

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// writerName is the transactional ID that the registries of a site share.
const writerName = "_schemas-writer"

// writeTime bounds one write with its way back, and one take-over.
const writeTime = 30 * time.Second

var errEnded = fail(codeStore, "the registry is ending; ask another node")

// writer has the right to write the topic. Whoever takes it over ends all
// earlier ones, in the middle of what they write (KIP-98: a transactional ID has
// one producer, and the epoch fences those before it). So what is decided on all
// that was written before the take-over, and since then by this writer, is
// decided on all there is; or it is not written.
type writer struct {
	client  *kgo.Client
	reading int // the state is sure while it is still this reading of the topic
}

// sure reports whether this node is the writer, as far as it knows, and its
// state has all that was written. The caller holds turn.
func (r *Registry) sure() bool {
	return r.writer != nil && r.writer.reading == r.beginnings()
}

// takeOver makes this node the writer and waits until it has read all that
// earlier ones wrote. Where that ends it finds out by writing a record and taking
// it back: the end alone does not tell, since compaction leaves offsets without
// records. The caller holds turn.
func (r *Registry) takeOver(ctx context.Context) error {
	r.drop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	cl, err := r.client(kgo.TransactionalID(writerName), kgo.TransactionTimeout(writeTime),
		kgo.ManualFlushing(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	r.writer = &writer{cl, r.beginnings()}
	if err = r.makeTopic(ctx, cl); err == nil {
		_, _, err = cl.ProducerID(ctx)
	}
	if err != nil {
		return r.failed(err)
	}
	return r.transact(ctx, []entry{{noopKey(), nil}}, kgo.TryAbort)
}

// put writes records, all of them or none, and waits until they were read back.
// It goes on when the client has left. After an error the next write takes over
// first, so that what became of this one is known by then. The caller holds turn.
func (r *Registry) put(ctx context.Context, out []entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	return r.transact(ctx, out, kgo.TryCommit)
}

// transact writes records in a transaction that ends so, and reads up to them.
func (r *Registry) transact(ctx context.Context, out []entry, end kgo.TransactionEndTry) error {
	cl := r.writer.client
	if err := cl.BeginTransaction(); err != nil {
		return r.failed(err)
	}
	var last int64
	var bad error
	for _, e := range out {
		cl.Produce(ctx, &kgo.Record{Topic: Topic, Key: e.key, Value: e.value}, func(rec *kgo.Record, err error) {
			if bad == nil {
				bad = err
			}
			last = max(last, rec.Offset)
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return r.failed(err) // and look at nothing that may still change
	}
	if bad != nil {
		end = kgo.TryAbort
	}
	if err := cl.EndTransaction(ctx, end); err != nil && bad == nil {
		bad = err
	}
	if bad != nil {
		return r.failed(bad)
	}
	err := r.await(ctx, func() bool { return r.mu.next > last })
	if err != nil {
		r.drop()
	}
	return err
}

// failed ends this node's time as the writer.
func (r *Registry) failed(err error) error {
	r.drop()
	if isFenced(err) {
		return err
	}
	return fail(codeStore, "writing to topic %s failed: %v", Topic, err)
}

func (r *Registry) drop() {
	if r.writer == nil {
		return
	}
	r.writer.client.Close()
	r.writer = nil
}

// end lets nobody write any more, once the write under way has ended.
func (r *Registry) end() {
	close(r.ended)
	r.turn <- struct{}{}
	r.drop()
}

// isFenced tells an error by which the hub says that there is a later writer, that
// the transaction was ended by one (KIP-890), or that it knows this one no more, as
// after a week without a write (transactional.id.expiration.ms).
func isFenced(err error) bool {
	for _, e := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
