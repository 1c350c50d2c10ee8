package file

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// chunk is how much is read at a time, in bytes.
const chunk = 256 << 10

// reader reads one log. rotation.go decides which file comes when.
type reader struct {
	lines
	log   *slog.Logger
	clock func() time.Time
	base  string    // path of the newest file
	from  *position // where to begin, until a file is open
	cur   *input    // nil until there is one
	ended bool      // everything was read, and no more will come
	// quiet is when the end of a rotated file was reached; zero after data.
	quiet time.Time
	// last holds a line that the end of a file completed.
	last []connectors.Message
}

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	deadline := r.clock().Add(limits.Wait)
	for {
		if err := ctx.Err(); err != nil {
			return connectors.Batch{}, err
		}
		if got := r.next(limits); len(got) > 0 {
			return connectors.Batch{Messages: got}, nil
		}
		if r.ended {
			return connectors.Batch{}, io.EOF
		}
		moved, err := r.advance()
		if err != nil {
			return connectors.Batch{}, err
		}
		if moved {
			continue
		}
		left := deadline.Sub(r.clock())
		if left <= 0 {
			return connectors.Batch{}, nil
		}
		if err := connectors.Pause(ctx, min(left, r.poll)); err != nil {
			return connectors.Batch{}, err
		}
	}
}

// next takes messages from what was read already.
func (r *reader) next(limits connectors.Limits) []connectors.Message {
	if len(r.last) > 0 {
		got := r.last
		r.last = nil
		return got
	}
	if r.cur == nil {
		return nil
	}
	return r.cut(r.cur.path, limits)
}

// advance reads more, or goes on to another file. moved is false when there
// is nothing to do but wait.
func (r *reader) advance() (moved bool, err error) {
	if r.cur == nil {
		err := r.start()
		if errors.Is(err, os.ErrNotExist) && r.follow {
			return false, nil
		}
		if errors.Is(err, os.ErrNotExist) {
			return false, connectors.Fatal(err)
		}
		return err == nil, err
	}
	st, err := r.cur.look(r.end())
	if err != nil {
		return false, err
	}
	if st.truncated {
		return true, r.truncated(st.size)
	}
	n, err := r.read(st.size)
	if err != nil {
		return false, err
	}
	if n == 0 {
		return r.atEnd()
	}
	r.quiet = time.Time{}
	return true, nil
}

// read takes the next chunk of a file of this size into the buffer.
func (r *reader) read(size int64) (int, error) {
	want := int64(chunk)
	if size >= 0 {
		want = min(want, size-r.end())
	}
	if want == 0 {
		return 0, nil
	}
	at := r.end()
	n, err := r.cur.readAt(r.grow(int(want)), at)
	r.grown(n)
	r.pos.identity, r.pos.mtime = r.cur.id, r.cur.mtime
	return n, err
}

// Committed implements connectors.Reader. A file does not care.
func (r *reader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *reader) Close(context.Context) error {
	if r.cur == nil {
		return nil
	}
	in := r.cur
	r.cur = nil
	return in.close()
}
