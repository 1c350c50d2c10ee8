package pgoutput

import (
	"fmt"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/storytest"
)

func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		e := &env{asm: Assembler{Spool: memory{}}}
		return e.do
	})
}

// env is a server that sends what a story tells, and what is made of it.
type env struct {
	asm Assembler
	xid uint32 // of the open block
}

func (e *env) do(verb string, a storytest.Args) string {
	if verb == "version" {
		e.asm.Decoder.Parallel = a.Int("parallel", 0) == 1
		if a.Has("nospool") {
			e.asm.Spool = nil
		}
		return ""
	}
	b := encode(e.message(verb, a), e.asm.Decoder.InStream(), e.asm.Decoder.Parallel)
	if cut := a.Int("cut", 0); cut > 0 {
		b = b[:len(b)-int(cut)]
	}
	var out strings.Builder
	err := pushAll(&e.asm, b, func(c *Change) error {
		out.WriteString(shown(c) + "\n")
		return nil
	})
	if err != nil {
		return out.String() + "error: " + err.Error()
	}
	return out.String()
}

// message reads a story's line. Rows are values with commas between; - is
// NULL and ~ unchanged.
func (e *env) message(verb string, a storytest.Args) Message {
	lsn := func(name string) LSN { return LSN(a.Int(name, 0)) }
	xid := uint32(a.Int("xid", int64(e.xid)))
	rel := uint32(a.Int("rel", 1))
	switch verb {
	case "begin":
		return &Begin{CommitLSN: lsn("lsn"), Xid: xid}
	case "commit":
		return &Commit{CommitLSN: lsn("lsn"), EndLSN: lsn("lsn") + 8}
	case "origin":
		return &Origin{Name: a.Bare()}
	case "relation":
		r := &Relation{Xid: xid, ID: rel, Namespace: "public", Name: a.Bare(), Identity: IdentityDefault}
		for _, c := range strings.Split(a.Get("columns"), ",") {
			name, key := strings.CutPrefix(c, "*")
			r.Columns = append(r.Columns, Column{Key: key, Name: name, Type: 25, Typmod: -1})
		}
		return r
	case "type":
		return &Type{Xid: xid, ID: 16400, Namespace: "public", Name: a.Bare()}
	case "insert":
		return &Insert{Xid: xid, Relation: rel, New: row(a.Get("new"))}
	case "update":
		return &Update{Xid: xid, Relation: rel, Old: row(a.Get("old")), OldWhole: a.Has("whole"), New: row(a.Get("new"))}
	case "delete":
		return &Delete{Xid: xid, Relation: rel, Old: row(a.Get("old")), OldWhole: a.Has("whole")}
	case "truncate":
		m := &Truncate{Xid: xid}
		for _, w := range strings.Split(a.Get("rels"), ",") {
			var id uint32
			_, _ = fmt.Sscan(w, &id)
			m.Relations = append(m.Relations, id)
		}
		return m
	case "note":
		return &LogicalMessage{Xid: xid, Transactional: a.Has("transactional"), LSN: lsn("lsn"), Prefix: "p", Content: []byte(a.Bare())}
	}
	return e.block(verb, a, xid, lsn)
}

func (e *env) block(verb string, a storytest.Args, xid uint32, lsn func(string) LSN) Message {
	p := Prepared{LSN: lsn("lsn"), EndLSN: lsn("lsn") + 8, Xid: xid, GID: "g"}
	switch verb {
	case "stream":
		e.xid = xid
		return &StreamStart{Xid: xid, First: a.Has("first")}
	case "stop":
		e.xid = 0
		return &StreamStop{}
	case "stream-commit":
		return &StreamCommit{Xid: xid, CommitLSN: lsn("lsn"), EndLSN: lsn("lsn") + 8}
	case "stream-abort":
		return &StreamAbort{Xid: xid, Subxid: uint32(a.Int("sub", int64(xid)))}
	case "stream-prepare":
		return &StreamPrepare{p}
	case "begin-prepare":
		return &BeginPrepare{p}
	case "prepare":
		return &Prepare{p}
	case "commit-prepared":
		return &CommitPrepared{p}
	case "rollback-prepared":
		return &RollbackPrepared{Xid: xid, GID: "g"}
	}
	a.T.Fatalf("unknown verb %s", verb)
	return nil
}

func row(text string) Tuple {
	if text == "" {
		return nil
	}
	var t Tuple
	for _, v := range strings.Split(text, ",") {
		switch v {
		case "-":
			t = append(t, Value{Kind: Null})
		case "~":
			t = append(t, Value{Kind: Unchanged})
		default:
			t = append(t, Value{Kind: Text, Data: []byte(v)})
		}
	}
	return t
}

func shown(c *Change) string {
	var s strings.Builder
	if c.Tx == nil {
		return fmt.Sprintf("note outside: %s", c.Note.Content)
	}
	fmt.Fprintf(&s, "%d.%d ", c.Tx.CommitLSN, c.Index)
	switch c.Op {
	case OpCommitted:
		fmt.Fprintf(&s, "committed, ends at %d", c.Tx.EndLSN)
		if c.Tx.Origin != "" {
			fmt.Fprintf(&s, ", from %s", c.Tx.Origin)
		}
		return s.String()
	case OpNote:
		fmt.Fprintf(&s, "note %s", c.Note.Content)
		return s.String()
	case OpTruncate:
		s.WriteString("truncate")
		for _, r := range c.Truncated {
			s.WriteString(" " + r.Name)
		}
		return s.String()
	}
	fmt.Fprintf(&s, "%c %s", c.Op, c.Relation.Name)
	for i, t := range []Tuple{c.Old, c.New} {
		if t == nil {
			continue
		}
		s.WriteString([]string{" old", " new"}[i])
		for j, v := range t {
			text := string(v.Data)
			if v.Kind != Text {
				text = map[Kind]string{Null: "-", Unchanged: "~"}[v.Kind]
			}
			fmt.Fprintf(&s, " %s=%s", c.Relation.Columns[j].Name, text)
		}
	}
	return s.String()
}
