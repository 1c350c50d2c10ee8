package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/connectors/format"
)

// errors of append complete "want …".
var (
	errWantString    = errors.New("a string")
	errWantNoNul     = errors.New("text without the character \\u0000, which PostgreSQL cannot keep")
	errWantBool      = errors.New("true or false")
	errWantInstant   = errors.New("a time with its zone, such as 2015-05-17T10:05:03.000001Z, of no more digits than it keeps")
	errWantLocal     = errors.New("a time without a zone, such as 2015-05-17T10:05:03.000001, of no more digits than it keeps")
	errWantDate      = errors.New("a date such as 2015-05-17")
	errWantUUID      = errors.New("a UUID such as 0b8e31cc-6d5c-4f6e-9d4f-0a3c6f1e2b7d")
	errWantBase64    = errors.New("bytes as base64")
	errWantFewerText = errors.New("a shorter text")
)

// append writes a raw JSON value, which is not null, as a field of COPY's text
// format. Nothing is rounded, cut or guessed.
func (t sqlType) append(dst, raw []byte) ([]byte, error) {
	switch t.kind {
	case kindInt2:
		return appendInt(dst, raw, 16, errWantInt2)
	case kindInt4:
		return appendInt(dst, raw, 32, errWantInt4)
	case kindInt8:
		return appendInt(dst, raw, 64, errWantInt8)
	case kindNumeric:
		return t.appendNumeric(dst, raw)
	case kindFloat4:
		return appendFloat(dst, raw, 32)
	case kindFloat8:
		return appendFloat(dst, raw, 64)
	case kindBool:
		if raw[0] != 't' && raw[0] != 'f' {
			return dst, errWantBool
		}
		return append(dst, raw[0]), nil
	case kindJSONB:
		if hasNulEscape(raw) {
			return dst, errWantNoNul
		}
		return appendEscaped(dst, raw), nil
	case kindJSON:
		return appendEscaped(dst, raw), nil
	case kindArray:
		return t.appendArray(dst, raw)
	case kindOther:
		return appendText(dst, format.Text(raw))
	}
	if raw[0] != '"' {
		return dst, t.wantString()
	}
	return t.appendString(dst, format.Text(raw))
}

// wantString is the complaint about a value that is not even a string.
func (t sqlType) wantString() error {
	_, err := t.appendString(nil, []byte("?"))
	if err == nil {
		err = errWantString
	}
	return err
}

func (t sqlType) appendString(dst, text []byte) ([]byte, error) {
	switch t.kind {
	case kindTimestampTZ:
		return t.appendInstant(dst, text)
	case kindTimestamp:
		return t.appendLocal(dst, text)
	case kindDate:
		d, err := time.Parse(time.DateOnly, string(text))
		if t.beyondGo(text) && !bytes.Contains(text, []byte("T")) {
			return append(dst, text...), nil
		}
		if err != nil || d.Year() == 0 {
			return dst, errWantDate
		}
		return append(dst, text...), nil
	case kindUUID:
		return appendUUID(dst, text)
	case kindBytea:
		b, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if err != nil || bytes.ContainsAny(text, "\r\n") {
			return dst, errWantBase64
		}
		return hex.AppendEncode(append(dst, `\\x`...), b), nil
	}
	if t.runes > 0 && len(text) > t.runes && utf8.RuneCount(text) > t.runes {
		return dst, errWantFewerText
	}
	return appendText(dst, text)
}

// beyond are the times that PostgreSQL has and Go has not: infinity, and years
// before 1 and after 9999, as the CDC source writes them. Their digits are
// checked, their meaning is left to the server.
var beyond = regexp.MustCompile(`^(-?infinity|\d{4,6}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?Z?)? BC|\d{5,7}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?Z?)?)$`)

func (t sqlType) beyondGo(text []byte) bool {
	last := len(text) - 1
	if last < 1 || text[last] != 'y' && text[last] != 'C' && (last < 5 || text[4] == '-') || !beyond.Match(text) {
		return false
	}
	_, fraction, _ := bytes.Cut(text, []byte("."))
	digits := len(fraction) - len(bytes.TrimLeft(fraction, "0123456789"))
	return digits <= t.fraction
}

// appendInstant brings a time to UTC, so that equal instants are equal texts.
func (t sqlType) appendInstant(dst, text []byte) ([]byte, error) {
	if t.beyondGo(text) && (text[len(text)-1] == 'y' || bytes.Contains(text, []byte("Z"))) {
		return append(dst, bytes.Replace(text, []byte("Z"), []byte("+00"), 1)...), nil
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil || !t.keeps(at, text) {
		return dst, errWantInstant
	}
	at = at.UTC()
	if at.Year() < 1 {
		return dst, errWantInstant
	}
	return append(at.AppendFormat(dst, "2006-01-02 15:04:05.999999"), "+00"...), nil
}

func (t sqlType) appendLocal(dst, text []byte) ([]byte, error) {
	if t.beyondGo(text) && !bytes.Contains(text, []byte("Z")) {
		return append(dst, text...), nil
	}
	at, err := time.Parse("2006-01-02T15:04:05.999999999", strings.Replace(string(text), " ", "T", 1))
	if err != nil || at.Year() < 1 || !t.keeps(at, text) {
		return dst, errWantLocal
	}
	return at.AppendFormat(dst, "2006-01-02 15:04:05.999999"), nil
}

// keeps reports whether the type has room for all digits of the second.
func (t sqlType) keeps(at time.Time, text []byte) bool {
	unit := 1_000_000_000
	for range t.fraction {
		unit /= 10
	}
	return at.Nanosecond()%unit == 0 && bytes.IndexByte(text, ',') < 0
}

func appendUUID(dst, text []byte) ([]byte, error) {
	plain := text
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		plain = bytes.ReplaceAll(text, []byte("-"), nil)
	}
	var id [16]byte
	if n, err := hex.Decode(id[:], plain[:min(len(plain), 32)]); err != nil || n != 16 || len(plain) != 32 {
		return dst, errWantUUID
	}
	return fmt.Appendf(dst, "%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

// hasNulEscape looks for the escape of U+0000 in raw JSON, and is not fooled
// by an escaped backslash before u0000.
func hasNulEscape(raw []byte) bool {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(raw[i:], []byte(`\u0000`)) {
			return true
		}
		raw = raw[i+2:]
	}
}

func appendText(dst, text []byte) ([]byte, error) {
	if bytes.IndexByte(text, 0) >= 0 {
		return dst, errWantNoNul
	}
	return appendEscaped(dst, text), nil
}

// appendEscaped writes text for COPY: the characters that mean something there
// after a backslash.
func appendEscaped(dst, text []byte) []byte {
	for {
		i := bytes.IndexAny(text, "\\\n\r\t")
		if i < 0 {
			return append(dst, text...)
		}
		dst = append(dst, text[:i]...)
		switch text[i] {
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\\`...)
		}
		text = text[i+1:]
	}
}
