package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// print writes v as JSON when --json was given, else the text.
func (c *cli) print(v any, text func(io.Writer)) error {
	if !c.json {
		text(c.out)
		return nil
	}
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table is rows under a heading. A heading that begins with ">" is of a column
// of numbers, which are aligned to the right.
type table struct {
	headings []string
	rows     [][]string
	empty    string // said when there are no rows
}

func newTable(empty string, headings ...string) *table {
	return &table{headings: headings, empty: empty}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 {
		fmt.Fprintln(w, t.empty)
		return
	}
	right := make([]bool, len(t.headings))
	heading := make([]string, len(t.headings))
	widths := make([]int, len(t.headings))
	for i, h := range t.headings {
		heading[i], right[i] = strings.TrimPrefix(h, ">"), strings.HasPrefix(h, ">")
		widths[i] = utf8.RuneCountInString(heading[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	writeRow(w, heading, widths, right)
	for _, row := range t.rows {
		writeRow(w, row, widths, right)
	}
}

func writeRow(w io.Writer, cells []string, widths []int, right []bool) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString("  ")
		}
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if right[i] {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
}

// facts writes lines of "name: value" with the values under each other. Empty
// values are left out.
func facts(w io.Writer, pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(w, "%-*s  %s\n", width+1, pairs[i]+":", pairs[i+1])
		}
	}
}

// dash stands for a cell that has nothing to say.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes bytes in the unit that a person would choose.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// stamp writes milliseconds since 1970 as UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
