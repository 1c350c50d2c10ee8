package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactionTimeout is how long the hub leaves a transaction open whose
// producer is gone and whose job does not come back to end it.
const transactionTimeout = 30 * time.Second

// transactionPrefix begins the transactional IDs of a job's splits.
func transactionPrefix(job string) string { return "connect/" + job + "/" }

// transactionID names the owner of a split: who asks for a producer of that
// name fences the one before.
func transactionID(job, split string) string { return transactionPrefix(job) + split }

// adopt commits the transactions that an earlier run of the job has left open:
// the one that only names, or with "" all but that of a replay. What they hold
// was acknowledged or is found again by name, and their checkpoints cover only
// what was acknowledged, so a part of a transaction is as good as the whole
// (docs/adr/0009). Aborting them would show readers that do not ask for
// read_committed the same records twice.
func adopt(ctx context.Context, adm *kadm.Client, cl *kgo.Client, job ConnectorSpec, only string) error {
	listed, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return fmt.Errorf("list the transactions that are open: %w", err)
	}
	var ids []string
	for id := range listed {
		split, ours := strings.CutPrefix(id, transactionPrefix(job.Name))
		if id == only || only == "" && ours && split != letterSplit && job.Share.split(split) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	open, err := adm.DescribeTransactions(ctx, ids...)
	if err != nil {
		return fmt.Errorf("describe the transactions %v: %w", ids, err)
	}
	for _, t := range open {
		if t.Err != nil || t.State != "Ongoing" {
			continue // it has ended meanwhile
		}
		if err := commitAs(ctx, cl, t); err != nil {
			return fmt.Errorf("commit the transaction %s that an earlier run has left: %w", t.TxnID, err)
		}
	}
	return nil
}

// commitAs commits in the place of the producer that began the transaction.
func commitAs(ctx context.Context, cl *kgo.Client, t kadm.DescribedTransaction) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = t.TxnID, t.ProducerID, t.ProducerEpoch, true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil, isFenced(err), errors.Is(err, kerr.InvalidTxnState), errors.Is(err, kerr.ConcurrentTransactions):
		return nil // by now somebody else has ended it or is about to
	default:
		return err
	}
}

// isFenced tells an error by which the hub says that there is a later owner.
func isFenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.TransactionalIDNotFound)
}

// transaction is the producer of one split. Between two commits it is always
// in a transaction.
type transaction struct {
	client *kgo.Client
	closed func()
	budget *budget
	raises bool     // commits raise the epoch
	before producer // as it was left by whoever had the name last; zero: not known

	mu struct {
		sync.Mutex
		err  error                           // the first that was not acknowledged
		ends map[record.TopicPartition]int64 // after the newest acknowledged record
	}
}

// openTransaction takes the name over: all earlier producers of it are fenced
// when it returns, and what they had in a transaction is decided.
func openTransaction(ctx context.Context, c *cluster, id string, limits map[string]int32, b *budget) (*transaction, error) {
	t := &transaction{budget: b}
	t.mu.ends = map[record.TopicPartition]int64{}
	cl, closed, err := c.client(ctx, "entrepot-"+id,
		kgo.TransactionalID(id), kgo.TransactionTimeout(transactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if limit, ok := limits[topic]; ok {
				return limit
			}
			return defaultBatchLimit
		}),
		kgo.MaxBufferedRecords(maxInFlight))
	if err != nil {
		return nil, err
	}
	t.client, t.closed = cl, closed
	t.before = lastHolder(ctx, cl, id)
	if _, _, err = cl.ProducerID(ctx); err == nil {
		err = cl.BeginTransaction()
	}
	if err != nil {
		closed()
		return nil, fmt.Errorf("take over the transactional ID %s: %w", id, err)
	}
	return t, nil
}

// lastHolder is the producer that a name's last transaction has left; zero if
// one is open, or if that cannot be told.
func lastHolder(ctx context.Context, cl *kgo.Client, id string) producer {
	described, err := kadm.NewClient(cl).DescribeTransactions(ctx, id)
	if d := described[id]; err == nil && d.Err == nil && slices.Contains([]string{"Empty", "CompleteCommit", "CompleteAbort"}, d.State) {
		return producer{d.ProducerID, d.ProducerEpoch}
	}
	return producer{}
}

// follows reports whether nothing has happened to q's name since q's
// transaction was committed, which has raised the epoch by one. Another
// transaction, a take-over and an abort each raise it, too.
func (p producer) follows(q *producer) bool {
	return q != nil && p.ID == q.ID && p.Epoch == q.Epoch+1
}

// holder is the producer of the present transaction; nil until a commit was
// seen to raise the epoch, as hubs before KIP-890 do not.
func (t *transaction) holder(ctx context.Context) (*producer, error) {
	if !t.raises {
		return nil, nil
	}
	id, epoch, err := t.client.ProducerID(ctx)
	return &producer{id, epoch}, fenced(err)
}

// send adds a record to the transaction. It waits while the job has too much
// in flight.
func (t *transaction) send(ctx context.Context, r *kgo.Record) error {
	size := recordSize(r) + recordOverhead
	if err := t.budget.take(ctx, size); err != nil {
		return err
	}
	t.client.Produce(ctx, r, func(r *kgo.Record, err error) {
		t.budget.give(size)
		t.acknowledged(r, err)
	})
	return nil
}

func (t *transaction) acknowledged(r *kgo.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tp := record.TopicPartition{Topic: r.Topic, Partition: r.Partition}
	if err == nil {
		t.mu.ends[tp] = max(t.mu.ends[tp], r.Offset+1)
	} else if t.mu.err == nil {
		t.mu.err = fmt.Errorf("write to %s: %w", tp, err)
	}
}

// failed is the first record that was not acknowledged.
func (t *transaction) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fenced(t.mu.err)
}

// settle waits until all that was sent is acknowledged, and raises ends to
// what comes after it.
func (t *transaction) settle(ctx context.Context, ends map[record.TopicPartition]int64) error {
	if err := t.client.Flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for tp, end := range t.mu.ends {
		ends[tp] = max(ends[tp], end)
	}
	return fenced(t.mu.err)
}

// commit ends the transaction and begins the next one. Invariant: what was
// sent before the notes is acknowledged, so that the notes hold even if a
// later run has to commit in our place. The notes' offsets are set.
func (t *transaction) commit(ctx context.Context, notes []*kgo.Record) error {
	if err := t.client.ProduceSync(ctx, notes...).FirstErr(); err != nil {
		return fenced(fmt.Errorf("write checkpoint: %w", err))
	}
	id, epoch, err := t.client.ProducerID(ctx)
	if err == nil {
		err = t.client.EndTransaction(ctx, kgo.TryCommit)
	}
	if err != nil {
		return fenced(fmt.Errorf("commit: %w", err))
	}
	nextID, next, err := t.client.ProducerID(ctx)
	if err != nil {
		return fenced(err)
	}
	t.raises = nextID == id && next == epoch+1
	return fenced(t.client.BeginTransaction())
}

// fenced names an error that says that there is a later owner. It is tried
// again: the hub also fences a producer whose transaction it has timed out,
// and who is the owner is for the lease to say.
func fenced(err error) error {
	if err == nil || !isFenced(err) {
		return err
	}
	return connectors.Retry(0, fmt.Errorf("%w, or the hub has ended a transaction that took over %v: %w", connectors.ErrFenced, transactionTimeout, err))
}

// budget bounds the bytes that all splits of a job have in flight.
type budget struct {
	most int
	mu   struct {
		sync.Mutex
		used int
		free chan struct{} // closed when something was given back; nil: nobody waits
	}
}

// take waits for room. What is larger than the whole goes alone.
func (b *budget) take(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		if b.mu.used == 0 || b.mu.used+n <= b.most {
			b.mu.used += n
			b.mu.Unlock()
			return nil
		}
		if b.mu.free == nil {
			b.mu.free = make(chan struct{})
		}
		free := b.mu.free
		b.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.used -= n
	if b.mu.free != nil {
		close(b.mu.free)
		b.mu.free = nil
	}
}
