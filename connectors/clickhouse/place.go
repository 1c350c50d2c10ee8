package clickhouse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// A position is 1, four bytes that stand for the columns of the key, and the
// key's values so that byte order is theirs: numbers in eight bytes, biggest
// first, signed ones with the sign turned round; texts with 0 as 0 1, ended by
// 0 0. Times are counted in the units that their column keeps.
const placeVersion = 1

// ordering is how the values of a key column are compared.
type ordering uint8

const (
	orderInt ordering = iota + 1
	orderUInt
	orderText
)

// orderKind is how a key column of the type is ordered, if it can be one.
func orderKind(t *chType) (ordering, bool) {
	if t.nullable {
		return 0, false
	}
	switch t.kind {
	case kindInt, kindDate, kindDateTime:
		return orderInt, true
	case kindUInt:
		return orderUInt, true
	case kindString, kindFixed, kindUUID:
		return orderText, true
	}
	return 0, false
}

// keyOrder is the order in which rows are read.
type keyOrder struct {
	exprs []string // in SQL, to compare
	picks []string // in SQL, to have the value
	kinds []ordering
	types []*chType
	mark  []byte // version and columns, at the head of each position
}

func (o *keyOrder) add(quoted string, kind ordering, t *chType) {
	expr, pick := quoted, t.selected(quoted)
	if t.kind == kindUUID { // their own order is not that of their texts
		expr, pick = "toString("+quoted+")", "toString("+quoted+")"
	}
	o.exprs, o.picks, o.kinds, o.types = append(o.exprs, expr), append(o.picks, pick), append(o.kinds, kind), append(o.types, t)
	h := fnv.New32a()
	for i, e := range o.exprs {
		_, _ = fmt.Fprintf(h, "%s %s;", e, o.types[i].shown)
	}
	o.mark = h.Sum([]byte{placeVersion})
}

// keyValue is one value of a key: a number, or a text.
type keyValue struct {
	n int64
	u uint64
	s string
}

// value takes what the driver gives.
func (o *keyOrder) value(i int, v any) (keyValue, error) {
	switch x := v.(type) {
	case string:
		if o.kinds[i] == orderInt { // a DateTime64
			at, err := time.Parse(timeText, x)
			return keyValue{n: o.types[i].units(at)}, err
		}
		return keyValue{s: x}, nil
	case time.Time:
		return keyValue{n: o.types[i].units(x)}, nil
	case int8:
		return keyValue{n: int64(x)}, nil
	case int16:
		return keyValue{n: int64(x)}, nil
	case int32:
		return keyValue{n: int64(x)}, nil
	case int64:
		return keyValue{n: x}, nil
	case uint8:
		return keyValue{u: uint64(x)}, nil
	case uint16:
		return keyValue{u: uint64(x)}, nil
	case uint32:
		return keyValue{u: uint64(x)}, nil
	case uint64:
		return keyValue{u: x}, nil
	}
	return keyValue{}, fmt.Errorf("the driver gives a %T for %s", v, o.types[i].shown)
}

// units counts days of a date, and of a time what its column keeps.
func (t *chType) units(at time.Time) int64 {
	if t.kind == kindDate {
		return midnight(at).Unix() / 86_400
	}
	n := at.Unix()
	frac := int64(at.Nanosecond())
	for range t.scale {
		n *= 10
	}
	for range 9 - t.scale {
		frac /= 10
	}
	return n + frac
}

// midnight is the day's in UTC. The driver gives the one in the server's zone,
// or an hour before or after it where clocks are changed then.
func midnight(day time.Time) time.Time {
	year, month, date := day.Add(12 * time.Hour).Date()
	return time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
}

func (t *chType) at(units int64) time.Time {
	if t.kind == kindDate {
		return time.Unix(units*86_400, 0).UTC()
	}
	per := int64(1)
	for range t.scale {
		per *= 10
	}
	seconds, rest := units/per, units%per
	if rest < 0 {
		seconds, rest = seconds-1, rest+per
	}
	return time.Unix(seconds, rest*(1_000_000_000/per)).UTC()
}

func (o *keyOrder) encode(key []keyValue) connectors.Position {
	b := bytes.Clone(o.mark)
	for i, v := range key {
		switch o.kinds[i] {
		case orderInt:
			b = binary.BigEndian.AppendUint64(b, uint64(v.n)^1<<63)
		case orderUInt:
			b = binary.BigEndian.AppendUint64(b, v.u)
		case orderText:
			b = append(b, strings.ReplaceAll(v.s, "\x00", "\x00\x01")...)
			b = append(b, 0, 0)
		}
	}
	return b
}

func (o *keyOrder) decode(pos connectors.Position) ([]keyValue, error) {
	rest, ours := bytes.CutPrefix(pos, o.mark)
	var key []keyValue
	err := errors.New("it is of another key")
	if ours {
		key, err = o.values(rest)
	}
	if err != nil {
		return nil, connectors.Fatalf("the position %x is not one of this source with this key: %v; reset the job's offsets", []byte(pos), err)
	}
	return key, nil
}

func (o *keyOrder) values(b []byte) ([]keyValue, error) {
	key := make([]keyValue, len(o.kinds))
	for i, k := range o.kinds {
		if k == orderText {
			text, rest, err := cutText(b)
			if err != nil {
				return nil, err
			}
			key[i].s, b = text, rest
			continue
		}
		if len(b) < 8 {
			return nil, errors.New("it is too short")
		}
		key[i].u = binary.BigEndian.Uint64(b)
		if k == orderInt {
			key[i] = keyValue{n: int64(key[i].u ^ 1<<63)}
		}
		b = b[8:]
	}
	if len(b) > 0 {
		return nil, errors.New("it is too long")
	}
	return key, nil
}

// cutText reads a text of a position.
func cutText(b []byte) (text string, rest []byte, err error) {
	var out []byte
	for i := 0; i+1 < len(b); i++ {
		switch {
		case b[i] != 0:
			out = append(out, b[i])
		case b[i+1] == 0:
			return string(out), b[i+2:], nil
		case b[i+1] == 1:
			out = append(out, 0)
			i++
		default:
			return "", nil, errors.New("a text in it is damaged")
		}
	}
	return "", nil, errors.New("a text in it has no end")
}

// literal is a value in SQL, of the column's own type.
func (o *keyOrder) literal(i int, v keyValue) string {
	t := o.types[i]
	switch {
	case t.kind == kindUUID:
		return quoteText(v.s)
	case t.kind == kindFixed:
		return fmt.Sprintf("toFixedString(unhex('%x'), %d)", v.s, t.length)
	case t.kind == kindString:
		return fmt.Sprintf("unhex('%x')", v.s)
	case t.kind == kindDate && t.bits == 32:
		return "toDate32('" + t.at(v.n).Format(time.DateOnly) + "')"
	case t.kind == kindDate:
		return "toDate('" + t.at(v.n).Format(time.DateOnly) + "')"
	case t.kind == kindDateTime && t.bits == 64:
		return fmt.Sprintf("toDateTime64('%s', %d, 'UTC')", t.at(v.n).Format("2006-01-02 15:04:05.000000000")[:20+max(t.scale, 1)], t.scale)
	case t.kind == kindDateTime:
		return fmt.Sprintf("toDateTime(%d)", v.n)
	case t.kind == kindUInt:
		return fmt.Sprintf("toUInt%d('%d')", t.bits, v.u)
	}
	return "toInt" + strconv.Itoa(t.bits) + "('" + strconv.FormatInt(v.n, 10) + "')"
}

func (o *keyOrder) tuple(key []keyValue) string {
	all := make([]string, len(key))
	for i, v := range key {
		all[i] = o.literal(i, v)
	}
	return "(" + strings.Join(all, ", ") + ")"
}

// beyond and upTo compare with a key; the first column stands by itself, too,
// so that the server passes over what it need not read.
func (o *keyOrder) beyond(key []keyValue) string { return o.compare(key, ">=", ">") }

func (o *keyOrder) upTo(key []keyValue) string { return o.compare(key, "<=", "<=") }

func (o *keyOrder) compare(key []keyValue, first, all string) string {
	if len(key) == 1 {
		return o.exprs[0] + " " + all + " " + o.literal(0, key[0])
	}
	return fmt.Sprintf("%s %s %s AND (%s) %s %s", o.exprs[0], first, o.literal(0, key[0]), strings.Join(o.exprs, ", "), all, o.tuple(key))
}
