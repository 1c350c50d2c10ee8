package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/postgres/pgoutput"
)

// catalog is what the CDC source knows of the database. It is asked as the
// tables and types come up.
type catalog struct {
	*session
	types map[uint32]*wireType
}

// published is a table of the publication as it is now.
type published struct {
	name        name
	oid         uint32
	partitioned bool
	columns     []formColumn
	order       []int  // columns of the key in the order of its index
	filter      string // rows that are published; "" for all
	partial     bool   // not all inserts and updates are published
}

// keys are the columns of the key in the order of the table.
func (p *published) keys() []int { return slices.Sorted(slices.Values(p.order)) }

// publish makes sure of the publication.
func (c *catalog) publish(ctx context.Context, s *cdcSettings) error {
	rows, err := c.query(ctx, "look for the publication", "SELECT 1 FROM pg_publication WHERE pubname = "+pq.QuoteLiteral(s.publication))
	if err != nil || len(rows) > 0 {
		return err
	}
	if len(s.tables) == 0 {
		return connectors.Fatalf("there is no publication %q: name the tables to publish in tables, or create it with CREATE PUBLICATION %s FOR … WITH (publish_via_partition_root = true)", s.publication, pq.QuoteIdentifier(s.publication))
	}
	_, err = c.query(ctx, "create the publication", s.createPublication())
	return err
}

func (s *cdcSettings) createPublication() string {
	all := make([]string, len(s.tables))
	for i, t := range s.tables {
		all[i] = t.qualified()
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (publish_via_partition_root = true)", pq.QuoteIdentifier(s.publication), strings.Join(all, ", "))
}

// tables lists what is published and wanted, in the order of the names' bytes.
func (c *catalog) tables(ctx context.Context, s *cdcSettings) ([]*published, error) {
	rows, err := c.query(ctx, "read the publication", `SELECT n.nspname, k.relname, k.oid, k.relkind, `+c.filterColumns()+`,
		(SELECT NOT (pubinsert AND pubupdate) FROM pg_publication WHERE pubname = p.pubname)
		FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = p.tablename
		WHERE p.pubname = `+pq.QuoteLiteral(s.publication))
	if err != nil {
		return nil, err
	}
	var all []*published
	for _, r := range rows {
		p := &published{name: name{string(r[0]), string(r[1])}, partitioned: string(r[3]) == "p", filter: string(r[4]), partial: string(r[6]) == "t"}
		if len(s.tables) > 0 && !slices.Contains(s.tables, p.name) {
			continue
		}
		oid, err := strconv.ParseUint(string(r[2]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", p.name, err)
		}
		p.oid = uint32(oid)
		if err := c.describe(ctx, p, string(r[5])); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, t := range s.tables {
		if !slices.ContainsFunc(all, func(p *published) bool { return p.name == t }) {
			return nil, connectors.Fatalf("table %s is not in publication %s: ALTER PUBLICATION %s ADD TABLE %s; a partitioned one also needs publish_via_partition_root = true", t, s.publication, pq.QuoteIdentifier(s.publication), t.qualified())
		}
	}
	slices.SortFunc(all, func(a, b *published) int { return cmp.Compare(a.name.String(), b.name.String()) })
	return all, nil
}

// filterColumns are the row filter and the columns of a publication, which
// PostgreSQL has since 15.
func (c *catalog) filterColumns() string {
	major, _, _ := strings.Cut(c.conn.ParameterStatus("server_version"), ".")
	if n, err := strconv.Atoi(major); err == nil && n < 15 {
		return "NULL, NULL"
	}
	return "p.rowfilter, array_to_string(p.attnames, chr(1))"
}

// describe finds the columns that are published, and the key.
func (c *catalog) describe(ctx context.Context, p *published, listed string) error {
	rows, err := c.query(ctx, "read the columns of "+p.name.String(), fmt.Sprintf(`SELECT a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod),
		(SELECT x.rank FROM pg_index i JOIN pg_class k ON k.oid = i.indrelid, unnest(i.indkey) WITH ORDINALITY AS x(attnum, rank)
		 WHERE i.indrelid = a.attrelid AND x.attnum = a.attnum AND x.rank <= i.indnkeyatts AND CASE k.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END)
		FROM pg_attribute a WHERE a.attrelid = %d AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum`, p.oid))
	if err != nil {
		return err
	}
	type keyColumn struct{ column, rank int }
	var (
		keys   []keyColumn
		oids   []uint32
		wanted []string
	)
	if listed != "" {
		wanted = strings.Split(listed, "\x01")
	}
	for _, r := range rows {
		if wanted != nil && !slices.Contains(wanted, string(r[0])) {
			continue
		}
		oid, err := strconv.ParseUint(string(r[1]), 10, 32)
		if err != nil {
			return fmt.Errorf("column %s of %s: %w", r[0], p.name, err)
		}
		if r[3] != nil {
			rank, _ := strconv.Atoi(string(r[3]))
			keys = append(keys, keyColumn{len(p.columns), rank})
		}
		oids = append(oids, uint32(oid))
		p.columns = append(p.columns, formColumn{name: string(r[0]), shown: string(r[2])})
	}
	if err := c.resolve(ctx, oids); err != nil {
		return err
	}
	for i, oid := range oids {
		p.columns[i].typ = c.types[oid]
	}
	slices.SortFunc(keys, func(a, b keyColumn) int { return a.rank - b.rank })
	for _, k := range keys {
		p.order = append(p.order, k.column)
	}
	return nil
}

// resolve learns types, and those they are made of. One that is not there any
// more is text.
func (c *catalog) resolve(ctx context.Context, oids []uint32) error {
	var unknown []string
	for _, oid := range oids {
		if c.types[oid] == nil {
			c.types[oid] = &wireType{name: "text", delim: ','}
			unknown = append(unknown, strconv.FormatUint(uint64(oid), 10))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	rows, err := c.query(ctx, "read the types", fmt.Sprintf(`SELECT oid, format_type(oid, NULL), typname, typdelim, typnamespace = 'pg_catalog'::regnamespace,
		CASE WHEN typtype = 'd' THEN typbasetype ELSE 0 END,
		CASE WHEN typcategory = 'A' AND typtype = 'b' AND typname NOT IN ('int2vector', 'oidvector') THEN typelem ELSE 0 END
		FROM pg_type WHERE oid IN (%s)`, strings.Join(unknown, ", ")))
	if err != nil {
		return err
	}
	for _, r := range rows {
		var ids [3]uint32
		for i, text := range [][]byte{r[0], r[5], r[6]} {
			n, err := strconv.ParseUint(string(text), 10, 32)
			if err != nil {
				return fmt.Errorf("type %s: %w", r[1], err)
			}
			ids[i] = uint32(n)
		}
		if err := c.learn(ctx, c.types[ids[0]], r, ids[1], ids[2]); err != nil {
			return err
		}
	}
	return nil
}

func (c *catalog) learn(ctx context.Context, t *wireType, row [][]byte, base, elem uint32) error {
	t.name, t.delim = string(row[1]), row[3][0]
	switch {
	case base != 0: // a domain
		if err := c.resolve(ctx, []uint32{base}); err != nil {
			return err
		}
		b := c.types[base]
		t.shape, t.elem, t.delim = b.shape, b.elem, b.delim
	case elem != 0:
		if err := c.resolve(ctx, []uint32{elem}); err != nil {
			return err
		}
		t.shape, t.elem, t.delim = shapeArray, c.types[elem], c.types[elem].delim
	case string(row[4]) == "t":
		t.shape = shapes[string(row[2])]
	}
	return nil
}

// relation makes a form's columns of a description that came in the stream.
func (c *catalog) relation(ctx context.Context, r *pgoutput.Relation) ([]formColumn, error) {
	columns := make([]formColumn, len(r.Columns))
	oids := make([]uint32, len(r.Columns))
	shown := make([]string, len(r.Columns))
	for i, col := range r.Columns {
		oids[i] = col.Type
		shown[i] = fmt.Sprintf("format_type(%d, %d)", col.Type, col.Typmod)
	}
	if err := c.resolve(ctx, oids); err != nil || len(oids) == 0 {
		return nil, err
	}
	row, err := c.one(ctx, "read the types", "SELECT "+strings.Join(shown, ", "))
	if err != nil {
		return nil, err
	}
	for i, col := range r.Columns {
		columns[i] = formColumn{name: col.Name, typ: c.types[col.Type], shown: string(row[i])}
	}
	return columns, nil
}
