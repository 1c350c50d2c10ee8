package postgres

import (
	"bytes"
	"context"
	"fmt"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// Parts of one change, in their order.
const (
	partRecord    uint16 = iota // of an insert, update or delete; the old row of a new key
	partTombstone               // of a delete, or of the old row
	partNew                     // the new row, when its key has changed
)

// changed makes messages of a change.
func (r *cdcReader) changed(ctx context.Context, c *pgoutput.Change) error {
	switch c.Op {
	case pgoutput.OpCommitted, pgoutput.OpNote:
		return nil
	}
	r.heard = r.clock()
	if c.Op == pgoutput.OpTruncate {
		return r.truncated(ctx, c)
	}
	if !r.wanted(c.Relation) || r.from.reached(c.Tx.CommitLSN, c.Index, partNew) {
		return nil
	}
	f, err := r.formOf(ctx, c.Relation)
	if err != nil {
		return err
	}
	fillUnchanged(c)
	ev := event{before: c.Old, whole: c.OldWhole, after: c.New}
	switch {
	case c.Op == pgoutput.OpInsert:
		ev.op = 'c'
		r.put(f, c, ev, partRecord)
	case c.Op == pgoutput.OpDelete:
		r.deleted(f, c)
	case keyChanged(f, c):
		r.deleted(f, c)
		ev.op, ev.before = 'c', nil
		r.put(f, c, ev, partNew)
	default:
		ev.op = 'u'
		r.put(f, c, ev, partRecord)
	}
	return nil
}

// put makes a message unless it is at or before where the reader was opened.
func (r *cdcReader) put(f *form, c *pgoutput.Change, ev event, part uint16) {
	if r.from.reached(c.Tx.CommitLSN, c.Index, part) {
		return
	}
	ev.lsn, ev.xid, ev.ts = c.Tx.CommitLSN, c.Tx.Xid, c.Tx.Time.Millis()
	r.add(r.envelope.message(f, &ev), place{system: r.from.system, streaming: true, lsn: c.Tx.CommitLSN, change: c.Index, part: part})
}

// deleted makes what the config wants of a row that is gone.
func (r *cdcReader) deleted(f *form, c *pgoutput.Change) {
	ev := event{op: 'd', before: c.Old, whole: c.OldWhole}
	if r.envelope.deletes != "tombstone" || len(f.keys) == 0 {
		r.put(f, c, ev, partRecord)
	}
	if r.envelope.deletes != "record" && len(f.keys) > 0 {
		ev.tombstone = true
		r.put(f, c, ev, partTombstone)
	}
}

func (r *cdcReader) truncated(ctx context.Context, c *pgoutput.Change) error {
	for i, rel := range c.Truncated {
		if !r.wanted(rel) || r.truncate == "skip" || r.from.reached(c.Tx.CommitLSN, c.Index, uint16(i)) {
			continue
		}
		if r.truncate == "fail" {
			return connectors.Fatalf("table %s.%s was truncated, and truncate is fail", rel.Namespace, rel.Name)
		}
		f, err := r.formOf(ctx, rel)
		if err != nil {
			return err
		}
		r.put(f, c, event{op: 't'}, uint16(i))
	}
	return nil
}

// wanted reports whether a table is one to follow.
func (r *cdcReader) wanted(rel *pgoutput.Relation) bool {
	if len(r.cdcSettings.tables) == 0 {
		return true
	}
	for _, t := range r.cdcSettings.tables {
		if t.table == rel.Name && t.schema == rel.Namespace {
			return true
		}
	}
	return false
}

// formOf prepares a table as the stream has described it. Its key is what old
// rows are told apart by; where that is the whole row, or nothing, it is the
// primary key that the table has now.
func (r *cdcReader) formOf(ctx context.Context, rel *pgoutput.Relation) (*form, error) {
	if f := r.forms[rel]; f != nil {
		return f, nil
	}
	columns, err := r.catalog.relation(ctx, rel)
	if err != nil {
		return nil, err
	}
	n := name{rel.Namespace, rel.Name}
	var keys []int
	primary := map[string]bool{}
	whole := rel.Identity == pgoutput.IdentityFull || rel.Identity == pgoutput.IdentityNothing
	if whole {
		if primary, err = r.catalog.primaryKey(ctx, n); err != nil {
			return nil, err
		}
	}
	for i, c := range rel.Columns {
		if whole && primary[c.Name] || !whole && c.Key {
			keys = append(keys, i)
		}
	}
	f, err := r.envelope.newForm(n, columns, keys)
	if err != nil {
		return nil, err
	}
	for old := range r.forms { // what described the table before
		if old.ID == rel.ID {
			delete(r.forms, old)
		}
	}
	if r.forms == nil {
		r.forms = map[*pgoutput.Relation]*form{}
	}
	r.forms[rel] = f
	return f, nil
}

// primaryKey are the columns of the key that a table has now.
func (c *catalog) primaryKey(ctx context.Context, n name) (map[string]bool, error) {
	p := &published{name: n}
	row, err := c.query(ctx, "look for table "+n.String(), fmt.Sprintf("SELECT to_regclass(%s)::oid", pq.QuoteLiteral(n.qualified())))
	if err != nil || len(row) == 0 || row[0][0] == nil {
		return nil, err
	}
	if _, err := fmt.Sscan(string(row[0][0]), &p.oid); err != nil {
		return nil, fmt.Errorf("look for table %s: %w", n, err)
	}
	if err := c.describe(ctx, p, ""); err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, i := range p.order {
		keys[p.columns[i].name] = true
	}
	return keys, nil
}

// fillUnchanged takes values that were not sent because they are as before
// from the old row, where that has them.
func fillUnchanged(c *pgoutput.Change) {
	if c.Old == nil || c.New == nil {
		return
	}
	for i := range c.New {
		if c.New[i].Kind == pgoutput.Unchanged && (c.OldWhole || c.Relation.Columns[i].Key) {
			c.New[i] = c.Old[i]
		}
	}
}

// keyChanged reports whether an update made a row of another key.
func keyChanged(f *form, c *pgoutput.Change) bool {
	if c.Old == nil {
		return false
	}
	for _, k := range f.keys {
		if c.Old[k].Kind != c.New[k].Kind || !bytes.Equal(c.Old[k].Data, c.New[k].Data) {
			return true
		}
	}
	return false
}
