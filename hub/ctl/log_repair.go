package ctl

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// repairing is what `log repair` says.
type repairing struct {
	Logs    []repairedLog `json:"logs"`
	Sound   int           `json:"sound"`             // logs with nothing to repair
	Refused []string      `json:"refused,omitempty"` // of which nothing can be made
}

// repairedLog is one damaged log: what is lost of it, and what was done.
type repairedLog struct {
	Log         string      `json:"log"`
	Dir         string      `json:"dir"`
	Quarantined string      `json:"quarantined,omitempty"`
	Gaps        []repairGap `json:"gaps"`
	// Lost is the number of offsets lost, which is the most that there can be of
	// records; Behind is how many there are behind the first gap, which a cut there
	// would lose.
	Lost       int64    `json:"lost_offsets"`
	Behind     int64    `json:"offsets_behind"`
	NextOffset int64    `json:"next_offset"`
	Unknown    []string `json:"unknown_segments,omitempty"`

	Ended     []replica.MendedTxn `json:"ended_transactions,omitempty"`
	Joined    []replica.MendedTxn `json:"joined_transactions,omitempty"`
	Open      []replica.MendedTxn `json:"open_transactions,omitempty"`
	Decisions bool                `json:"decisions_lost,omitempty"`
	Others    []int32             `json:"other_nodes,omitempty"`

	Refused  string `json:"refused,omitempty"`
	Repaired bool   `json:"repaired"`
	Kept     string `json:"kept,omitempty"` // where the damaged files are
}

// repairGap is a place at which something cannot be read.
type repairGap struct {
	File       string     `json:"file"`
	From       int64      `json:"from"` // bytes, from ≤ b < to
	To         int64      `json:"to"`   // -1: the next segment is missing
	Reason     string     `json:"reason"`
	Index      uint64     `json:"index"` // entries, index ≤ i < next_index
	NextIndex  uint64     `json:"next_index"`
	Offset     int64      `json:"offset"` // offsets, offset ≤ o < next_offset
	NextOffset int64      `json:"next_offset"`
	Before     *time.Time `json:"before,omitempty"` // largest time of the batches before
	After      *time.Time `json:"after,omitempty"`  // of what is lost, if it is known, or of the one behind
}

func (c *cli) logRepair() *cobra.Command {
	var execute, only bool
	cmd := &cobra.Command{
		Use:   "repair DIR",
		Short: "Repair damaged logs that no other replica can repair; shows first what is lost",
		Long: `Look for damaged logs in DIR, the data directory of a node that does not run or
the directory of one log in it, and show what of them cannot be read. Nothing is
changed without --execute.

A node repairs its logs by itself from other replicas. With one replica a person
decides, with this command: what can be read before and behind the damage stays,
at its offsets, and what cannot be read is left out; consumers go on over the gap.
Offsets that are lost are not given again. The damaged files are kept beside, in
LOG.damaged, until you delete them.

A transaction whose end was lost is ended as the rest of the log says; where
nothing says how, it is aborted, and where nobody knows whether, it stays open and
is shown.

Logs with other replicas are refused: start the node. --only-replica says that
there are none any more, whatever the log knows, and makes this node's the group's
only one. If another one is there after all, both go on, and each has records that
the other lacks.`,
		Example: `  entrepot log repair ./entrepot-data
  entrepot log repair ./entrepot-data/clicks-3 --execute`,
		Args: exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := existing(args[0])
			if err == nil {
				dir, err = filepath.Abs(dir) // its parent is wanted
			}
			if err != nil {
				return err
			}
			return c.repairLogs(filepath.ToSlash(dir), execute, only)
		},
	}
	cmd.Flags().BoolVar(&execute, "execute", false, "repair them")
	cmd.Flags().BoolVar(&only, "only-replica", false, "no other replica is left of any log in DIR that is repaired")
	return cmd
}

func (c *cli) repairLogs(dir string, execute, only bool) error {
	all, err := storage.OpenSalvages(vfs.OS(), dir, execute)
	if err != nil {
		return err
	}
	out := repairing{Logs: []repairedLog{}, Sound: all.Sound}
	for _, err := range all.Refused {
		out.Refused = append(out.Refused, err.Error())
	}
	var failed error
	for _, s := range all.Logs {
		one, err := repairOne(all, s, execute, only)
		if failed = errors.Join(failed, err); err != nil && one.Refused == "" {
			break // the disk fails
		}
		out.Logs = append(out.Logs, one)
	}
	failed = errors.Join(failed, all.Close())
	if err := c.print(out, func(w io.Writer) { writeRepairing(w, out, execute) }); err != nil {
		return err
	}
	if failed == nil && len(out.Refused) > 0 {
		return errShown
	}
	return failed
}

// repairOne shows what is lost of a log, and repairs it.
func repairOne(all *storage.Salvages, s *storage.Salvage, execute, only bool) (repairedLog, error) {
	out := describeSalvage(s)
	self, several, err := memberOf(path.Dir(s.Dir))
	if err != nil {
		return out, err
	}
	m, err := replica.Mend(s, self, only, time.Now().UnixMilli())
	out.Ended, out.Joined, out.Open, out.Decisions, out.Others = m.Ended, m.Joined, m.Open, m.Decisions, m.Others
	switch {
	case errors.Is(err, replica.ErrNotAlone):
		err = fmt.Errorf("%w: start this node and it repairs the log from them; --only-replica, if they are gone for good", err)
	case err == nil && m.Decisions && several && !only:
		err = errors.New("what is lost may be a change of its replicas, and the site has, or had, other nodes: if `entrepot topic describe` shows other replicas, start this node and let them repair it; --only-replica, if there are none")
	}
	if err != nil {
		err = fmt.Errorf("log %s is not repaired: %w", s.Log, err)
		out.Refused = err.Error()
		return out, err
	}
	if !execute {
		return out, nil
	}
	if out.Kept, err = all.Repair(s, m.Aux, m.Fill); err == nil {
		out.Repaired = true
	}
	return out, err
}

// memberOf is the member that the node of a data directory is, and whether its
// site has had other nodes.
func memberOf(dir string) (member uint64, several bool, err error) {
	n, ok, err := identity.Read(vfs.OS(), dir)
	if err != nil || !ok {
		return replica.MemberID(1, 0), false, err // a directory from before there were several nodes
	}
	return replica.MemberID(n.ID, n.Incarnation), n.Several(), nil
}

func describeSalvage(s *storage.Salvage) repairedLog {
	out := repairedLog{Log: s.Log.String(), Dir: s.Dir, Quarantined: s.Marker, Gaps: []repairGap{}, NextOffset: s.End.NextOffset, Unknown: s.Unknown}
	for _, g := range s.Gaps {
		out.Gaps = append(out.Gaps, repairGap{
			File: g.File, From: g.From, To: g.To, Reason: g.Reason, Index: g.Index, NextIndex: g.NextIndex,
			Offset: g.Offset, NextOffset: g.NextOffset, Before: timeOrNone(g.Before), After: timeOrNone(g.After),
		})
		if out.Lost == 0 && g.NextOffset > g.Offset {
			out.Behind = s.End.NextOffset - g.NextOffset
		}
		out.Lost += g.NextOffset - g.Offset
	}
	return out
}

func timeOrNone(ms int64) *time.Time {
	if ms < 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

func writeRepairing(w io.Writer, out repairing, execute bool) {
	t := newTable("no damaged log", "LOG", "SEGMENT", ">BYTE", ">TO", "LOST OFFSETS", ">COUNT", "WRITTEN BETWEEN", "WHY")
	for _, l := range out.Logs {
		if len(l.Gaps) == 0 {
			t.row(l.Log, "-", "-", "-", "none", "0", "-", dash(l.Quarantined))
		}
		for _, g := range l.Gaps {
			lost, to, when := "none", grouped(g.To), "-"
			if g.NextOffset > g.Offset {
				lost = fmt.Sprintf("%s to %s", grouped(g.Offset), grouped(g.NextOffset-1))
			}
			if g.To < 0 {
				to = "-"
			}
			if g.Before != nil || g.After != nil {
				when = fmt.Sprintf("%s and %s", stampOr(g.Before, "the begin"), stampOr(g.After, "the end"))
			}
			t.row(l.Log, g.File, grouped(g.From), to, lost, grouped(g.NextOffset-g.Offset), when, g.Reason)
		}
	}
	t.write(w)
	for _, l := range out.Logs {
		writeRepaired(w, l)
	}
	for _, r := range out.Refused {
		fmt.Fprintln(w, r)
	}
	if len(out.Logs) > 0 && !execute {
		fmt.Fprintln(w, "nothing was changed; --execute repairs what is not refused")
	}
}

func stampOr(t *time.Time, none string) string {
	if t == nil {
		return none
	}
	return stamp(*t)
}

// writeRepaired says of one log what the table does not.
func writeRepaired(w io.Writer, l repairedLog) {
	say := func(format string, args ...any) { fmt.Fprintf(w, l.Log+": "+format+"\n", args...) }
	if l.Lost == 0 {
		say("no record is lost; the next is given offset %s", grouped(l.NextOffset))
	} else {
		say("at most %s lost; %s behind the first loss stay, the next is given offset %s",
			was(l.Lost, "record"), plural(int(l.Behind), "offset"), grouped(l.NextOffset))
	}
	for _, t := range l.Ended {
		how := "aborted"
		if t.Commit {
			how = "committed"
		}
		why := "as the rest of the log says"
		if t.Guessed {
			why = "because nothing says how it ended; who reads only what is committed does not see it"
		}
		say("the end of a transaction of producer %d from offset %s was lost: it is %s, %s", t.Producer, grouped(t.First), how, why)
	}
	for _, t := range l.Joined {
		how := "aborted"
		if t.Commit {
			how = "committed"
		}
		say("a transaction of producer %d from offset %s may have ended where the damage is; it is %s with what the producer wrote behind it", t.Producer, grouped(t.First), how)
	}
	for _, t := range l.Open {
		id := strings.LastIndexByte(l.Log, '-')
		say("a transaction of producer %d from offset %s may have ended where the damage is, and stays open: readers of what is committed wait for it. If `entrepot txn list` does not show it, end it: entrepot txn abort --topic %s --partition %s --producer %d",
			t.Producer, grouped(t.First), l.Log[:id], l.Log[id+1:], t.Producer)
	}
	if l.Decisions {
		say("settings that are kept in the log, such as its start or the link it belongs to, may be among what is lost")
	}
	for _, name := range l.Unknown {
		say("segment %s is left out: nothing in it can be read, and nothing says that there was anything", name)
	}
	if l.Repaired {
		say("repaired; the damaged files are in %s, which may be deleted", l.Kept)
	}
}

// was counts things of which it is said that they were lost.
func was(n int64, what string) string {
	if n == 1 {
		return plural(1, what) + " is"
	}
	return plural(int(n), what) + " are"
}
