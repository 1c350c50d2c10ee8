package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxBad is how many bad rows are looked for at a time. The rest of them fail
// the next write; by then the job may have stopped for having too many.
const maxBad = 100

// badLine is a row that the server refuses.
type badLine struct {
	index int // in the batch
	err   error
}

// applier brings the staged rows into the table.
type applier struct {
	*tx
	target  *target
	rows    *rows
	deletes bool
	bad     []badLine
}

// apply writes all rows at once. If the server refuses that because of a row,
// ever smaller parts are tried, until the bad ones are alone; the transaction
// is then good for nothing but a rollback.
func (a *applier) apply() ([]badLine, error) {
	if err := a.halve(0, len(a.rows.lines)); err != nil || len(a.bad) == 0 {
		return nil, err
	}
	if err := a.again(); err != nil {
		return nil, err
	}
	slices.SortFunc(a.bad, func(x, y badLine) int { return x.index - y.index })
	return a.bad, nil
}

func (a *applier) halve(lo, hi int) error {
	if len(a.bad) >= maxBad {
		return nil
	}
	refusal, err := a.try(lo, hi)
	if err != nil || refusal == nil {
		return err
	}
	if hi-lo == 1 {
		a.bad = append(a.bad, badLine{a.rows.lines[lo].index, refusal})
		return nil
	}
	middle := (lo + hi) / 2
	if err := a.halve(lo, middle); err != nil {
		return err
	}
	return a.halve(middle, hi)
}

// again tries the bad rows once more, now that the good ones are in: a row may
// have failed only because one that it refers to was in another part.
func (a *applier) again() error {
	for progress := true; progress; {
		progress = false
		var still []badLine
		for _, b := range a.bad {
			i, _ := slices.BinarySearchFunc(a.rows.lines, b.index, func(l line, index int) int { return l.index - index })
			refusal, err := a.try(i, i+1)
			if err != nil {
				return err
			}
			if refusal == nil {
				progress = true
				continue
			}
			still = append(still, badLine{b.index, refusal})
		}
		a.bad = still
	}
	return nil
}

// try writes some of the rows; when the server refuses them it is as if they
// had not been tried.
func (a *applier) try(lo, hi int) (refusal, err error) {
	staged := a.target.staged(a.rows.lines[lo].index, a.rows.lines[hi-1].index+1)
	statements := "SAVEPOINT part; "
	if a.deletes {
		statements += a.target.remove(staged) + "; "
	}
	statements += a.target.insert(staged, "")
	kept := a.kept(lo, hi)
	if len(kept) == 0 {
		statements += "; RELEASE SAVEPOINT part"
	}
	if _, err = a.exec(statements); err == nil && len(kept) > 0 {
		refusal, err = a.partial(staged, kept)
	}
	if err == nil && refusal == nil {
		return nil, nil
	}
	if err != nil {
		if !aboutRows(err) {
			return nil, fmt.Errorf("table %s: %w", a.target.table, err)
		}
		refusal = err
	}
	if _, err := a.exec("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part"); err != nil {
		return nil, err
	}
	return refusal, nil
}

// keptRows are rows that leave the same columns as they are.
type keptRows struct {
	kept  string
	count int64
}

func (a *applier) kept(lo, hi int) []keptRows {
	counts := map[string]int64{}
	for _, l := range a.rows.lines[lo:hi] {
		if l.kept != "" {
			counts[l.kept]++
		}
	}
	var all []keptRows
	for _, kept := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, keptRows{kept, counts[kept]})
	}
	return all
}

var errNoRow = errors.New("it leaves columns as they are (__unchanged), and there is no row of its key")

// partial writes rows that leave columns as they are, those that leave the
// same ones together.
func (a *applier) partial(staged string, kept []keptRows) (refusal, err error) {
	for _, k := range kept {
		statement := a.target.update(staged, k.kept)
		if a.target.merge {
			statement = a.target.insert(staged, k.kept)
		}
		n, err := a.exec(statement)
		if err != nil {
			return nil, err
		}
		if n < k.count && !a.target.merge {
			return errNoRow, nil
		}
	}
	_, err = a.exec("RELEASE SAVEPOINT part")
	return nil, err
}
