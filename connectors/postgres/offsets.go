package postgres

import (
	"fmt"
	"strconv"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// offsets is the table that keeps how far each partition was loaded:
//
//	job          text     name of the job
//	topic        text
//	partition    integer
//	next_offset  bigint   all records below are in the table
//	epoch        bigint   of the owner that wrote last
type offsets struct {
	name name
	job  string
}

func (o offsets) create() string {
	return fmt.Sprintf(`CREATE TABLE %s (job text NOT NULL, topic text NOT NULL, "partition" integer NOT NULL, next_offset bigint NOT NULL, epoch bigint NOT NULL, PRIMARY KEY (job, topic, "partition"))`,
		o.name.qualified())
}

func (o offsets) where(tp record.TopicPartition) string {
	return fmt.Sprintf(`job = %s AND topic = %s AND "partition" = %d`, pq.QuoteLiteral(o.job), pq.QuoteLiteral(tp.Topic), tp.Partition)
}

// row reads how far a partition was loaded, and by whom.
func (o offsets) row(t *tx, tp record.TopicPartition) (next, epoch int64, known bool, err error) {
	got, err := t.query(fmt.Sprintf("SELECT next_offset::text, epoch::text FROM %s WHERE %s", o.name.qualified(), o.where(tp)))
	if err != nil || len(got) == 0 {
		return 0, 0, false, err
	}
	if next, err = strconv.ParseInt(got[0][0], 10, 64); err == nil {
		epoch, err = strconv.ParseInt(got[0][1], 10, 64)
	}
	return next, epoch, err == nil, err
}

// advance is the fence. It moves the row from where the plan begins to where
// it ends, and changes nothing when the row is elsewhere or of a later owner.
// From then on until the end of the transaction nobody else can pass it.
func (o offsets) advance(p connectors.Plan) string {
	return fmt.Sprintf(`INSERT INTO %s AS o (job, topic, "partition", next_offset, epoch) VALUES (%s, %s, %d, %d, %d)
		ON CONFLICT (job, topic, "partition") DO UPDATE SET next_offset = EXCLUDED.next_offset, epoch = EXCLUDED.epoch
		WHERE o.next_offset = %d AND o.epoch <= EXCLUDED.epoch`,
		o.name.qualified(), pq.QuoteLiteral(o.job), pq.QuoteLiteral(p.Partition.Topic), p.Partition.Partition, p.To, p.Epoch, p.From)
}

// verdict is what a fence that did not let the plan pass has to say.
type verdict struct {
	done bool // the plan is in already
	err  error
}

// refused finds why the fence did not let a plan pass.
func (o offsets) refused(t *tx, p connectors.Plan) verdict {
	next, epoch, known, err := o.row(t, p.Partition)
	switch {
	case err != nil:
		return verdict{err: err}
	case !known:
		return verdict{err: connectors.Retry(0, fmt.Errorf("the row of %s in %s was deleted just now", p.Partition, o.name))}
	case epoch > p.Epoch:
		return verdict{err: connectors.Fatal(fmt.Errorf("%w: %s says that epoch %d has loaded %s up to offset %d, this is epoch %d", connectors.ErrFenced, o.name, epoch, p.Partition, next, p.Epoch))}
	case next == p.To:
		return verdict{done: true}
	}
	return verdict{err: connectors.Retry(0, fmt.Errorf("%s says that %s was loaded up to offset %d, but the plan begins at %d: ask again where to go on", o.name, p.Partition, next, p.From))}
}
