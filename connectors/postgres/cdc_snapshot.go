package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// Rows are fetched in chunks of about this many bytes, and at most this many rows.
const (
	chunkBytes = 1 << 20
	chunkRows  = 10_000
)

// snapshot reads the tables under one snapshot, in the order of their names,
// each by its key.
type snapshot struct {
	*session
	tables []*published
	from   place  // where to begin
	now    string // pg_current_snapshot()
	seen   string // the same when the slot was made, a slash, and a sum of the files that the tables were in
	older  xids   // what was over then
	moved  bool   // a table is in other files now: it was rewritten or emptied

	next int // in tables
	cur  *tableScan
	rows int // to fetch next time
}

// tableScan is a table being read through a cursor.
type tableScan struct {
	*published
	form  *form
	order rowOrder
	older xids // rows that came later are skipped
}

// openSnapshot begins. exported is the snapshot of the slot that was just
// made; without one, what is there now is read.
func openSnapshot(ctx context.Context, cfg *pgconn.Config, tables []*published, from place, exported string) (*snapshot, error) {
	s, err := openSession(ctx, cfg)
	if err != nil {
		return nil, err
	}
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
	if exported != "" {
		begin += "SET TRANSACTION SNAPSHOT " + pq.QuoteLiteral(exported) + "; "
	}
	begin += lockTables(tables)
	// A scan has to begin at the beginning and give rows as they lie on disk.
	begin += "SET LOCAL synchronize_seqscans = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL cursor_tuple_fraction = 1; SELECT pg_current_snapshot()"
	row, err := s.one(ctx, "begin to read the rows", begin)
	if err != nil {
		s.close()
		return nil, err
	}
	snap := &snapshot{session: s, tables: tables, from: from, now: string(row[0]), rows: 100}
	if err := snap.compare(ctx); err != nil {
		s.close()
		return nil, err
	}
	return snap, nil
}

// compare finds out what has happened since the slot was made.
func (s *snapshot) compare(ctx context.Context) error {
	files, err := s.files(ctx)
	if err != nil {
		return err
	}
	if s.seen = s.from.seen; s.seen == "" {
		s.seen = s.now + "/" + files
	}
	then, before, _ := strings.Cut(s.seen, "/")
	s.moved = before != files
	s.older, err = xidsOf(then, s.now)
	return err
}

// lockTables keeps tables from being rewritten or truncated: an older snapshot
// would find them empty then. Reading and writing rows goes on.
func lockTables(tables []*published) string {
	if len(tables) == 0 {
		return ""
	}
	all := make([]string, len(tables))
	for i, t := range tables {
		all[i] = t.name.qualified()
	}
	return "LOCK TABLE " + strings.Join(all, ", ") + " IN ACCESS SHARE MODE; "
}

// rowsOf is a run of rows of one table with their keys.
type rowsOf struct {
	*tableScan
	tuples []pgoutput.Tuple
	keys   [][]byte
}

// fetch reads on; nil means that all is read.
func (s *snapshot) fetch(ctx context.Context, newForm func(*published) (*form, error)) (*rowsOf, error) {
	for {
		if s.cur == nil {
			if s.next == len(s.tables) {
				return nil, nil
			}
			t := s.tables[s.next]
			s.next++
			if t.name.String() < s.from.table { // it was read in an earlier run
				continue
			}
			f, err := newForm(t)
			if err != nil {
				return nil, err
			}
			if err := s.declare(ctx, t, f); err != nil {
				return nil, err
			}
		}
		what := "read the rows of " + s.cur.name.String()
		rows, err := s.query(ctx, what, fmt.Sprintf("FETCH %d FROM entrepot_rows", s.rows))
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			if _, err := s.query(ctx, what, "CLOSE entrepot_rows"); err != nil {
				return nil, err
			}
			s.cur = nil
			continue
		}
		got, err := s.cur.take(rows)
		if err != nil {
			return nil, err
		}
		s.adapt(rows)
		if len(got.tuples) > 0 {
			return got, nil
		}
	}
}

// adapt chooses how many rows make a chunk, by the size of the last ones.
func (s *snapshot) adapt(rows [][][]byte) {
	size := 1
	for _, r := range rows {
		for _, v := range r {
			size += len(v) + 8
		}
	}
	s.rows = max(1, min(chunkRows, s.rows*4, chunkBytes*len(rows)/size))
}

// declare opens the cursor for a table, behind the last row of an earlier run.
func (s *snapshot) declare(ctx context.Context, p *published, f *form) error {
	t := &tableScan{published: p, form: f, order: orderOf(p)}
	var where []string
	if p.filter != "" {
		where = append(where, "("+p.filter+")")
	}
	if s.from.seen != "" {
		skip, err := s.skips(ctx, p)
		if err != nil {
			return err
		}
		if skip {
			t.older = s.older
		}
	}
	if p.name.String() == s.from.table {
		after, err := t.order.after(s.from.key)
		if err != nil {
			return connectors.Fatal(fmt.Errorf("table %s: the key of the checkpoint is not of the key that the table has now: %w; reset the job's offsets", p.name, err))
		}
		where = append(where, after)
	}
	columns := t.order.selected()
	for _, c := range p.columns {
		columns = append(columns, pq.QuoteIdentifier(c.name))
	}
	statement := "DECLARE entrepot_rows NO SCROLL CURSOR FOR SELECT " + strings.Join(columns, ", ") + " FROM "
	if !p.partitioned {
		statement += "ONLY "
	}
	statement += p.name.qualified()
	if len(where) > 0 {
		statement += " WHERE " + strings.Join(where, " AND ")
	}
	if by := t.order.by(); by != "" {
		statement += " ORDER BY " + by
	}
	if _, err := s.query(ctx, "read the rows of "+p.name.String(), statement); err != nil {
		return err
	}
	s.cur = t
	return nil
}

// skips decides whether rows that were written after the slot was made are
// left to the stream, which has all of them. Not where it may lack a large
// value that has not changed, nor where a row carries the number of who rewrote
// the table: such rows are read as well.
func (s *snapshot) skips(ctx context.Context, p *published) (bool, error) {
	if len(p.order) == 0 {
		if s.moved {
			return false, connectors.Fatalf("table %s has no key, and a table was rewritten while the rows were being read: reset the job's offsets to read all rows anew", p.name)
		}
		return !p.partial, nil
	}
	row, err := s.one(ctx, "look at table "+p.name.String(), "SELECT coalesce(sum(pg_relation_size(nullif(reltoastrelid, 0))), 0) = 0 FROM pg_class WHERE oid IN ("+tree(p)+")")
	if err != nil {
		return false, err
	}
	return !s.moved && !p.partial && string(row[0]) == "t", nil
}

// tree is a query for a table and its partitions.
func tree(p *published) string {
	return fmt.Sprintf("SELECT relid FROM pg_partition_tree(%[1]d) UNION SELECT %[1]d::regclass", p.oid)
}

// files sums up in which files the tables are.
func (s *snapshot) files(ctx context.Context) (string, error) {
	if len(s.tables) == 0 {
		return "", nil
	}
	all := make([]string, len(s.tables))
	for i, t := range s.tables {
		all[i] = tree(t)
	}
	row, err := s.one(ctx, "look at the tables", "SELECT left(md5(string_agg(oid || ' ' || coalesce(pg_relation_filenode(oid), 0), ',' ORDER BY oid)), 16) FROM pg_class WHERE oid IN ("+strings.Join(all, " UNION ")+")")
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// tupleOf is what a query has answered, in the form in which the stream has it.
func tupleOf(values [][]byte) pgoutput.Tuple {
	tuple := make(pgoutput.Tuple, len(values))
	for i, v := range values {
		tuple[i].Kind = pgoutput.Null
		if v != nil {
			tuple[i] = pgoutput.Value{Kind: pgoutput.Text, Data: v}
		}
	}
	return tuple
}

// take makes tuples of rows, and leaves out those that the stream will bring.
func (t *tableScan) take(rows [][][]byte) (*rowsOf, error) {
	out := &rowsOf{tableScan: t, tuples: make([]pgoutput.Tuple, 0, len(rows)), keys: make([][]byte, 0, len(rows))}
	n := len(t.order.selected())
	for _, r := range rows {
		key, xmin, err := t.order.key(r[:n])
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
		if t.older.later(xmin) {
			continue
		}
		out.tuples = append(out.tuples, tupleOf(r[n:]))
		out.keys = append(out.keys, key)
	}
	return out, nil
}

// xids tells which transactions were over when a snapshot was taken. The zero
// value says of none that it came later.
type xids struct {
	xmin, xmax uint32 // all below xmin are seen, none from xmax on
	running    map[uint32]bool
	now        uint32 // xmax of a snapshot taken now
}

// xidsOf reads what pg_current_snapshot() printed then and prints now:
// xmin:xmax:running,running.
func xidsOf(then, now string) (x xids, err error) {
	read := func(s string) (n [2]uint64, list string, err error) {
		parts := strings.SplitN(s, ":", 3)
		if len(parts) != 3 {
			return n, "", fmt.Errorf("%q is not a snapshot", s)
		}
		for i := range n {
			if n[i], err = strconv.ParseUint(parts[i], 10, 64); err != nil {
				return n, "", fmt.Errorf("%q is not a snapshot: %w", s, err)
			}
		}
		return n, parts[2], nil
	}
	bounds, list, err := read(then)
	if err != nil {
		return x, err
	}
	later, _, err := read(now)
	if err != nil {
		return x, err
	}
	x = xids{xmin: uint32(bounds[0]), xmax: uint32(bounds[1]), now: uint32(later[1]), running: map[uint32]bool{}}
	for _, s := range strings.Split(list, ",") {
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			x.running[uint32(n)] = true
		}
	}
	return x, nil
}

// later reports whether a transaction ended after the snapshot was taken. Rows
// carry 32 bits of the number only: what does not lie between then and now is
// of long ago.
func (x xids) later(xid uint32) bool {
	if x.running == nil || xid-x.xmin >= x.now-x.xmin {
		return false
	}
	return xid-x.xmin >= x.xmax-x.xmin || x.running[xid]
}
