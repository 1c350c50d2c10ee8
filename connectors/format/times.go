package format

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Dates and times are RFC 3339's where that has a form. A year after 9999 has
// more digits, and one before 1 has the suffix " BC", as PostgreSQL writes them.

var (
	errInfinite = errors.New("a finite time; infinity has no place there (allow_lossy: [infinity_to_null] makes it null)")
	errTooFar   = errors.New("a time within 292,000 years of 1970")
	errNanos    = errors.New("a time of at most microseconds (allow_lossy: [nanoseconds_to_microseconds] cuts the rest)")
)

// infinite recognizes the texts of a time that is none.
func infinite(text []byte) bool {
	return len(text) > 7 && string(text[len(text)-8:]) == "infinity" && (len(text) == 8 || string(text) == "-infinity")
}

// parseWide reads a text by a layout that begins with the year.
func parseWide(layout string, text []byte) (time.Time, error) {
	if bytes.IndexByte(text, ',') >= 0 {
		return time.Time{}, strconv.ErrSyntax
	}
	digits := bytes.IndexByte(text, '-')
	if digits == 4 && text[len(text)-1] != 'C' {
		return time.Parse(layout, string(text))
	}
	rest, bc := bytes.CutSuffix(text, []byte(" BC"))
	if digits < 4 || digits > 7 || text[0] == '+' {
		return time.Time{}, strconv.ErrSyntax
	}
	year, err := strconv.Atoi(string(rest[:digits]))
	if err != nil || year == 0 {
		return time.Time{}, strconv.ErrSyntax
	}
	if bc {
		year = 1 - year
	}
	// A year that has the same days stands in for the one with more digits.
	like := 2000 + (year%400+400)%400
	t, err := time.Parse(layout, strconv.Itoa(like)+string(rest[digits:]))
	if err != nil {
		return t, err
	}
	return t.AddDate(year-like, 0, 0), nil
}

// micros is microseconds since the Unix epoch of an instant, or of a time
// without a zone as if that were UTC.
func micros(layout string, text []byte, l Lossy, want error) (int64, error) {
	t, err := parseWide(layout, text)
	if err != nil {
		return 0, want
	}
	if t.Nanosecond()%1000 != 0 && l&LossNanos == 0 {
		return 0, errNanos
	}
	if s := t.Unix(); s >= math.MaxInt64/1_000_000 || s <= math.MinInt64/1_000_000 {
		return 0, errTooFar
	}
	return t.UnixMicro(), nil
}

const (
	localLayout = "2006-01-02T15:04:05.999999999"
	clockLayout = "15:04:05.999999999"
	dayLength   = 24 * 60 * 60
)

// parseMicros reads RFC 3339 with at most microseconds, as microseconds since
// the Unix epoch.
func parseMicros(text []byte) (int64, error) {
	return micros(time.RFC3339Nano, text, 0, errWantTimestamp)
}

// ParseMillis reads RFC 3339, as milliseconds since the Unix epoch; what is below
// is cut off.
func ParseMillis(text []byte) (int64, error) {
	us, err := parseMicros(text)
	if err != nil {
		return 0, fmt.Errorf("want %w, got %q", err, clip(text))
	}
	return floorDiv(us, 1000), nil
}

// days since the Unix epoch of a date.
func days(text []byte) (int32, error) {
	t, err := parseWide(time.DateOnly, text)
	if err != nil {
		return 0, errWantDate
	}
	d := floorDiv(t.Unix(), dayLength)
	if d != int64(int32(d)) {
		return 0, errTooFar
	}
	return int32(d), nil
}

// clockMicros is microseconds since midnight.
func clockMicros(text []byte, l Lossy) (int64, error) {
	if len(text) < 8 || bytes.IndexByte(text, ',') >= 0 {
		return 0, errWantTime
	}
	t, err := time.Parse(clockLayout, string(text))
	if err != nil {
		return 0, errWantTime
	}
	if t.Nanosecond()%1000 != 0 && l&LossNanos == 0 {
		return 0, errNanos
	}
	return int64(t.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Microsecond), nil
}

// appendDay writes a date; suffix follows what has no year of its own.
func appendDay(b []byte, t time.Time, layout, suffix string) []byte {
	year, bc := t.Year(), ""
	if year < 1 {
		year, bc = 1-year, " BC"
	}
	digits := strconv.Itoa(year)
	for range 4 - len(digits) {
		b = append(b, '0')
	}
	b = append(b, digits...)
	b = t.AppendFormat(b, layout)
	return append(append(b, suffix...), bc...)
}

// appendTime writes an instant, or with an empty zone a time that has none.
// Zeros at the end of the fraction are left out.
func appendTime(b []byte, seconds, nanos int64, zone string) []byte {
	t := time.Unix(seconds, nanos).UTC()
	return appendDay(b, t, "-01-02T15:04:05.999999999", zone)
}

func appendDate(b []byte, day int64) []byte {
	return appendDay(b, time.Unix(day*dayLength, 0).UTC(), "-01-02", "")
}

// appendClock writes a time of the day.
func appendClock(b []byte, nanos int64) []byte {
	return time.Unix(0, nanos).UTC().AppendFormat(b, clockLayout)
}
