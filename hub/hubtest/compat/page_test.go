package compat

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// row is a line of the table in docs/compatibility.md, and the notes below it.
type row struct {
	client, version, what   string
	passed, failed, skipped int
	date                    string
	notes                   []string // one for each failure and each skip
}

// key begins the row's line; there is one row for it.
func (r row) key() string { return fmt.Sprintf("| %s | %s |", r.client, r.what) }

func (r row) String() string {
	return fmt.Sprintf("%s %s | %d | %d | %d | %s |", r.key(), r.version, r.passed, r.failed, r.skipped, r.date)
}

// The table's head, and the heading under which the notes are.
const (
	tableHead = "| client | what ran | version | passed | failed | skipped | date |"
	notesHead = "## What failed or was skipped, and why"
)

// put returns the page with the row and its notes in the place of those it had
// before. Rows and notes stay sorted; other text stays as it is.
func put(page string, r row) string {
	before, rest, ok := strings.Cut(page, tableHead+"\n")
	if !ok {
		return page
	}
	lines := strings.Split(rest, "\n")
	end := slices.Index(lines, "")
	rows := slices.DeleteFunc(lines[1:end], func(line string) bool { return strings.HasPrefix(line, r.key()) })
	rows = append(slices.Clone(rows), r.String())
	slices.Sort(rows)
	page = before + tableHead + "\n" + lines[0] + "\n" + strings.Join(rows, "\n") + "\n" + strings.Join(lines[end:], "\n")
	return putNotes(page, r)
}

// putNotes replaces the section of a row's notes.
func putNotes(page string, r row) string {
	before, rest, ok := strings.Cut(page, notesHead+"\n")
	if !ok {
		return page
	}
	title := fmt.Sprintf("### %s: %s", r.client, r.what)
	sections := strings.Split(strings.TrimSpace(rest), "\n\n### ")
	kept := []string{}
	for _, s := range sections {
		s = strings.TrimSpace(s)
		if s != "" && !strings.HasPrefix(s, "### ") {
			s = "### " + s
		}
		if s != "" && s != title && !strings.HasPrefix(s, title+"\n") {
			kept = append(kept, s)
		}
	}
	if len(r.notes) > 0 {
		slices.Sort(r.notes)
		kept = append(kept, title+"\n\n* "+strings.Join(r.notes, "\n* "))
	}
	slices.Sort(kept)
	return strings.TrimSpace(before+notesHead+"\n\n"+strings.Join(kept, "\n\n")) + "\n"
}

func TestPut(t *testing.T) {
	page := "# C\n\n" + tableHead + "\n|---|\n| a | x | 1 | 1 | 0 | 0 | d |\n| c | x | 1 | 1 | 0 | 0 | d |\n\ntext\n\n" +
		notesHead + "\n\n### c: x\n\n* `T` failed: old\n"
	got := put(put(page, row{client: "b", what: "x", version: "2", passed: 3, date: "e"}),
		row{client: "c", what: "x", version: "2", passed: 2, failed: 1, date: "e", notes: []string{"`T` failed: new"}})
	want := "# C\n\n" + tableHead + "\n|---|\n| a | x | 1 | 1 | 0 | 0 | d |\n| b | x | 2 | 3 | 0 | 0 | e |\n| c | x | 2 | 2 | 1 | 0 | e |\n\ntext\n\n" +
		notesHead + "\n\n### c: x\n\n* `T` failed: new\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if again := put(got, row{client: "c", what: "x", version: "2", passed: 3, date: "e"}); strings.Contains(again, "###") {
		t.Errorf("notes of a suite without failures are left:\n%s", again)
	}
}

// TestPage: the page has what put looks for.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{tableHead, notesHead} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("docs/compatibility.md has no line %q", want)
		}
	}
}
