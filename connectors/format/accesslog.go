package format

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/entrepot-hub/entrepot/connectors"
)

// accessLog parses the Common and Combined log formats of Apache httpd and
// nginx (httpd's mod_log_config: "%h %l %u %t \"%r\" %>s %b", and Combined
// with "\"%{Referer}i\" \"%{User-agent}i\"" after it). The record always has
// the same fields, in this order: remote_addr, ident, user, ts, method, path,
// protocol, status, bytes; combined has referer and agent as well.
//
//   - A dash means that the server had nothing to log: null.
//   - ts is RFC 3339 in UTC, and the record's timestamp.
//   - A request that is not METHOD TARGET [HTTP/x] is kept: method and
//     protocol are null and path is all of it.
//   - The servers' escapes (\" \\ \n \t \xhh …) are undone. When that does not
//     give UTF-8, the field keeps its escapes, and stray bytes become \xhh.
//   - An agent cut off by the end of the line, without its closing quote, is
//     taken as far as it goes. Text after the agent is refused.
type accessLog struct {
	combined bool
	slab     slab
	text     []byte // scratch for unescaping
}

// access is one line cut into its fields; escapes are still in.
type access struct {
	remote, ident, user []byte
	time                time.Time
	request             []byte
	status, bytes       []byte
	referer, agent      []byte
}

func (p *accessLog) Parse(m *connectors.Message) error {
	var a access
	if err := a.split(m.Value, p.combined); err != nil {
		return err
	}
	out := p.append(p.slab.room(2*len(m.Value)+256), &a)
	m.SetValue(p.slab.keep(out))
	m.Timestamp = a.time.UnixMilli()
	return nil
}

// split cuts a line into fields.
func (a *access) split(line []byte, combined bool) error {
	line = bytes.TrimSuffix(line, []byte("\r"))
	c := cursor{rest: line, all: line}
	a.remote, a.ident = c.word("the client address"), c.word("the ident")
	a.user = c.until(" [", "the user and the time in brackets")
	stamp := c.until("] ", "the closing bracket of the time")
	a.request = c.quoted("the request", true)
	a.status = c.word("the status")
	a.bytes = c.last("the size", !combined)
	if combined {
		a.referer = c.quoted("the referer", true)
		a.agent = c.quoted("the agent", false)
	}
	if c.err != nil {
		return c.err
	}
	return a.check(stamp)
}

func (a *access) check(stamp []byte) (err error) {
	if a.time, err = parseCLFTime(stamp); err != nil {
		return err
	}
	if !isDash(a.status) && (len(a.status) != 3 || !allDigits(a.status)) {
		return connectors.Poisonf("the status is %q, want three digits", clip(a.status))
	}
	if !isDash(a.bytes) && (len(a.bytes) > 18 || !allDigits(a.bytes)) {
		return connectors.Poisonf("the size is %q, want digits or a dash", clip(a.bytes))
	}
	return nil
}

func (p *accessLog) append(b []byte, a *access) []byte {
	b = p.field(append(b, `{"remote_addr":`...), a.remote)
	b = p.field(append(b, `,"ident":`...), a.ident)
	b = p.field(append(b, `,"user":`...), a.user)
	b = a.time.UTC().AppendFormat(append(b, `,"ts":"`...), time.RFC3339)
	method, path, protocol := splitRequest(a.request)
	b = p.field(append(b, `","method":`...), method)
	b = p.field(append(b, `,"path":`...), path)
	b = p.field(append(b, `,"protocol":`...), protocol)
	b = appendDigits(append(b, `,"status":`...), a.status)
	b = appendDigits(append(b, `,"bytes":`...), a.bytes)
	if p.combined {
		b = p.field(append(b, `,"referer":`...), a.referer)
		b = p.field(append(b, `,"agent":`...), a.agent)
	}
	return append(b, '}')
}

// field writes a text as a JSON string, or null for a dash or nothing at all.
func (p *accessLog) field(b, s []byte) []byte {
	if isDash(s) || s == nil {
		return append(b, "null"...)
	}
	if plainText(s) {
		b = append(append(b, '"'), s...)
		return append(b, '"')
	}
	p.text = unescape(p.text[:0], s)
	if !utf8.Valid(p.text) {
		p.text = escapeBytes(p.text[:0], s)
	}
	b, _ = jsontext.AppendQuote(b, p.text) // valid UTF-8, so never an error
	return b
}

// splitRequest cuts a request line. The target may hold spaces, as broken
// clients send them.
func splitRequest(r []byte) (method, path, protocol []byte) {
	first, last := bytes.IndexByte(r, ' '), bytes.LastIndexByte(r, ' ')
	if first <= 0 || !isToken(r[:first]) {
		return nil, r, nil
	}
	if tail := r[last+1:]; last > first && len(tail) > 5 && string(tail[:5]) == "HTTP/" {
		return r[:first], r[first+1 : last], tail
	}
	if r[first+1:] != nil && first+1 < len(r) && r[first+1] == '/' && last == first {
		return r[:first], r[first+1:], nil // HTTP/0.9 has no protocol
	}
	return nil, r, nil
}

// isToken reports whether a method is spelled with the letters that real ones
// have (RFC 9110 allows more, and none of that is in use).
func isToken(b []byte) bool {
	for _, c := range b {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// appendDigits writes digits as a JSON number, which has no leading zeros.
func appendDigits(b, s []byte) []byte {
	if isDash(s) {
		return append(b, "null"...)
	}
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return append(b, s...)
}

// parseCLFTime reads 17/May/2015:10:05:03 +0000.
func parseCLFTime(s []byte) (time.Time, error) {
	bad := func() (time.Time, error) {
		return time.Time{}, connectors.Poisonf("the time is %q, want one like 17/May/2015:10:05:03 +0000", clip(s))
	}
	if len(s) != 26 || s[2] != '/' || s[6] != '/' || s[11] != ':' || s[14] != ':' || s[17] != ':' || s[20] != ' ' {
		return bad()
	}
	month := bytes.Index([]byte("JanFebMarAprMayJunJulAugSepOctNovDec"), s[3:6])
	day, year := two(s[0:]), two(s[7:])*100+two(s[9:])
	hour, minute, second := two(s[12:]), two(s[15:]), two(s[18:])
	zoneHour, zoneMinute := two(s[22:]), two(s[24:])
	for _, n := range [...]int{day, two(s[7:]), two(s[9:]), hour, minute, second, zoneHour, zoneMinute} {
		if n < 0 {
			return bad()
		}
	}
	if month < 0 || month%3 != 0 || hour > 23 || minute > 59 || second > 60 || zoneHour > 23 || zoneMinute > 59 || (s[21] != '+' && s[21] != '-') {
		return bad()
	}
	t := time.Date(year, time.Month(month/3+1), day, hour, minute, second, 0, time.UTC)
	if second < 60 && t.Day() != day || day == 0 {
		return bad() // 31 April
	}
	zone := time.Duration(zoneHour)*time.Hour + time.Duration(zoneMinute)*time.Minute
	if s[21] == '+' {
		zone = -zone
	}
	if t = t.Add(zone); t.Year() < 0 || t.Year() > 9999 {
		return bad()
	}
	return t, nil
}

// two reads two digits; negative when there are none.
func two(s []byte) int {
	if s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' {
		return -10000
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

func isDash(s []byte) bool { return len(s) == 1 && s[0] == '-' }

func allDigits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// clip makes a piece of a bad line fit for an error message.
func clip(s []byte) string {
	if len(s) > 40 {
		return string(s[:40]) + "…"
	}
	return string(s)
}

// plainText reports whether a text can stand in JSON as it is.
func plainText(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// unescape undoes what httpd and nginx do to characters that could break a
// log line. An escape that neither of them writes stays as it is.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			dst = append(dst, s[i])
			continue
		}
		const letters, meant = `"\nrtbvf`, "\"\\\n\r\t\b\v\f"
		if k := bytes.IndexByte([]byte(letters), s[i+1]); k >= 0 {
			dst, i = append(dst, meant[k]), i+1
			continue
		}
		if s[i+1] == 'x' && i+3 < len(s) {
			if n, err := strconv.ParseUint(string(s[i+2:i+4]), 16, 8); err == nil {
				dst, i = append(dst, byte(n)), i+3
				continue
			}
		}
		dst = append(dst, s[i])
	}
	return dst
}

// escapeBytes writes every byte that is not part of UTF-8 as \xhh.
func escapeBytes(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, '\\', 'x', hex[s[0]>>4], hex[s[0]&15])
		} else {
			dst = append(dst, s[:n]...)
		}
		s = s[n:]
	}
	return dst
}
