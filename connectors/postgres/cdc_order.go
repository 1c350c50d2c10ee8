package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lib/pq"
)

// keyKind is how a column of a key is ordered and put into positions, so that
// the order of the bytes is the order in which the server reads.
type keyKind uint8

const (
	keyText  keyKind = iota // its text in the order of bytes; ends with a zero
	keyInt                  // 8 bytes, the sign turned round
	keyUUID                 // its 16 bytes
	keyTable                // object id of a partition, 4 bytes
	keyCtid                 // where the row lies: block (4), item (2)
)

// rowOrder is the order in which a table is read: its key, or the place of the
// rows on disk.
type rowOrder struct {
	kinds []keyKind
	exprs []string // what is ordered by
	plain bool     // a scan gives the order by itself
}

func orderOf(p *published) rowOrder {
	if len(p.order) == 0 {
		o := rowOrder{kinds: []keyKind{keyTable, keyCtid}, exprs: []string{"tableoid", "ctid"}}
		if !p.partitioned {
			o.kinds, o.exprs, o.plain = o.kinds[1:], o.exprs[1:], true
		}
		return o
	}
	var o rowOrder
	for _, i := range p.order {
		c := &p.columns[i]
		quoted := pq.QuoteIdentifier(c.name)
		switch c.typ.name {
		case "smallint", "integer", "bigint":
			o.kinds = append(o.kinds, keyInt)
		case "uuid":
			o.kinds = append(o.kinds, keyUUID)
		case "text", "character varying":
			o.kinds = append(o.kinds, keyText)
			quoted += ` COLLATE "C"`
		default:
			o.kinds = append(o.kinds, keyText)
			quoted += `::text COLLATE "C"`
		}
		o.exprs = append(o.exprs, quoted)
	}
	return o
}

// selected are the columns of a query that the key is made of, and the number
// of the transaction that wrote the row.
func (o rowOrder) selected() []string {
	all := make([]string, len(o.exprs), len(o.exprs)+1)
	for i, e := range o.exprs {
		all[i] = e
		if o.kinds[i] == keyTable {
			all[i] = "tableoid::bigint"
		}
	}
	return append(all, "xmin")
}

func (o rowOrder) by() string {
	if o.plain {
		return ""
	}
	return strings.Join(o.exprs, ", ")
}

var errKey = errors.New("the key cannot be read")

// key makes the ordered form of a row's key. xmin is the transaction that
// wrote the row.
func (o rowOrder) key(values [][]byte) (key []byte, xmin uint32, err error) {
	if key, err = o.encode(values); err != nil {
		return nil, 0, err
	}
	n, err := strconv.ParseUint(string(values[len(o.kinds)]), 10, 32)
	if err != nil {
		return nil, 0, errKey
	}
	return key, uint32(n), nil
}

func (o rowOrder) encode(values [][]byte) (key []byte, err error) {
	for i, kind := range o.kinds {
		v := values[i]
		if v == nil {
			return nil, errKey
		}
		switch kind {
		case keyInt:
			n, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil {
				return nil, errKey
			}
			key = binary.BigEndian.AppendUint64(key, uint64(n)^1<<63)
		case keyUUID:
			n := len(key)
			if key, err = hex.AppendDecode(key, bytes.ReplaceAll(v, []byte("-"), nil)); err != nil || len(key) != n+16 {
				return nil, errKey
			}
		case keyTable:
			n, err := strconv.ParseUint(string(v), 10, 32)
			if err != nil {
				return nil, errKey
			}
			key = binary.BigEndian.AppendUint32(key, uint32(n))
		case keyCtid:
			var block uint32
			var item uint16
			if _, err := fmt.Sscanf(string(v), "(%d,%d)", &block, &item); err != nil {
				return nil, errKey
			}
			key = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(key, block), item)
		default:
			key = append(append(key, v...), 0)
		}
	}
	return key, nil
}

// after is the condition for the rows behind a key.
func (o rowOrder) after(key []byte) (string, error) {
	literals, err := o.literals(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("(%s) > (%s)", strings.Join(o.exprs, ", "), strings.Join(literals, ", ")), nil
}

// literals are a key's values as SQL.
func (o rowOrder) literals(key []byte) ([]string, error) {
	literals := make([]string, len(o.kinds))
	for i, kind := range o.kinds {
		size := map[keyKind]int{keyInt: 8, keyUUID: 16, keyTable: 4, keyCtid: 6}[kind]
		if kind == keyText {
			size = bytes.IndexByte(key, 0)
		}
		if size < 0 || size > len(key) {
			return nil, errKey
		}
		v := key[:size]
		key = key[size:]
		switch kind {
		case keyInt:
			literals[i] = strconv.FormatInt(int64(binary.BigEndian.Uint64(v)^1<<63), 10)
			if literals[i][0] == '-' {
				literals[i] = "'" + literals[i] + "'::bigint" // the least one has no positive
			}
		case keyUUID:
			literals[i] = "'" + hex.EncodeToString(v) + "'::uuid"
		case keyTable:
			literals[i] = strconv.FormatUint(uint64(binary.BigEndian.Uint32(v)), 10) + "::oid"
		case keyCtid:
			literals[i] = fmt.Sprintf("'(%d,%d)'::tid", binary.BigEndian.Uint32(v), binary.BigEndian.Uint16(v[4:]))
		default:
			literals[i] = pq.QuoteLiteral(string(v)) + "::text"
			key = key[1:]
		}
	}
	if len(key) > 0 {
		return nil, errKey
	}
	return literals, nil
}
