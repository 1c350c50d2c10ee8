package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

// Open implements connectors.Source.
func (Source) Open(ctx context.Context, task connectors.TaskContext, split connectors.Split, from connectors.Position) (connectors.Reader, error) {
	if note := split.Config[changedNote]; note != "" {
		return nil, connectors.Fatal(errors.New(note))
	}
	s, err := sourceSettingsOf(task.Config)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	r := &reader{sourceSettings: s, name: split.ID, log: task.Logger.With("file", split.ID)}
	if from != nil {
		if r.at, err = decodePlace(from); err != nil {
			return nil, err
		}
		r.resume = true
	}
	if r.library, err = openLibrary(ctx, s); err != nil {
		return nil, err
	}
	return r, nil
}

// reader reads one file.
type reader struct {
	sourceSettings
	library library
	name    string
	log     *slog.Logger

	was    shelved // the file as it was when it was opened
	file   *bound
	rows   format.RowReader // nil until the file is open, and after an error
	packed io.Closer        // what unpacks the file
	at     place            // of the last row that was handed out
	resume bool             // there was one
	ended  bool
	failed error // comes with the next call: rows were handed out before it
	slab   []byte
}

// slabSize is how much memory rows share.
const slabSize = 256 << 10

// Read implements connectors.Reader.
func (r *reader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	var b connectors.Batch
	bytes := 0
	for len(b.Messages) == 0 || (limits.Records <= 0 || len(b.Messages) < limits.Records) && (limits.Bytes <= 0 || bytes < limits.Bytes) {
		if err := ctx.Err(); err != nil && len(b.Messages) == 0 {
			return b, err
		} else if err != nil {
			return b, nil
		}
		if err := r.failed; err != nil {
			r.failed = nil
			return b, err
		}
		m, err := r.next(ctx)
		if err != nil && len(b.Messages) > 0 {
			r.failed = err
			return b, nil
		}
		if err != nil {
			return b, err
		}
		bytes += m.Size()
		b.Messages = append(b.Messages, m)
	}
	return b, nil
}

// next reads one row. io.EOF is the end of the file, after which there is
// nothing more for good.
func (r *reader) next(ctx context.Context) (connectors.Message, error) {
	if r.ended || r.resume && r.at.Block == endOfFile {
		return connectors.Message{}, io.EOF
	}
	if r.rows == nil {
		if err := r.open(ctx); err != nil {
			return r.broken(ctx, err)
		}
	}
	r.file.ctx = ctx
	if cap(r.slab)-len(r.slab) < slabSize/8 {
		r.slab = make([]byte, 0, slabSize)
	}
	row, err := r.rows.Next(r.slab[len(r.slab):])
	switch {
	case errors.Is(err, io.EOF):
		if err := r.unchanged(ctx); err != nil {
			return r.broken(ctx, err)
		}
		r.ended = true
		return connectors.Message{}, io.EOF
	case err != nil && connectors.ClassOf(err) != connectors.ClassPoison:
		return r.broken(ctx, err)
	}
	r.at = place{Place: row.Place, number: r.at.number + 1, print: r.was.print()}
	r.resume = true
	m := r.message()
	if err == nil {
		value := row.JSON[:len(row.JSON):len(row.JSON)]
		if len(r.slab)+len(value) <= cap(r.slab) {
			r.slab = r.slab[:len(r.slab)+len(value)]
		}
		m.Original = value
		if row.Original != nil {
			m.Original = row.Original
		}
		err = r.finish(&m, value)
	} else {
		m.Original = row.Original
	}
	if m.Err = err; err != nil {
		m.Value = nil
	}
	return m, nil
}

func (r *reader) message() connectors.Message {
	pos := r.at.append(make([]byte, 0, placeSize))
	return connectors.Message{
		Timestamp: connectors.NoTimestamp, Position: pos, Place: pos[:placeKey:placeKey],
		Origin: connectors.Origin{Name: r.whole(r.name), Line: r.at.number},
	}
}

// broken sorts out why a file cannot be read: it cannot be reached, it has
// changed or gone, or it is not what it should be.
func (r *reader) broken(ctx context.Context, err error) (connectors.Message, error) {
	if r.file != nil && r.file.err != nil {
		err = r.file.err
	}
	below := r.file != nil && r.file.err != nil || r.file == nil
	closed := r.shut() // the next call opens the file again
	switch {
	case ctx.Err() != nil:
		return connectors.Message{}, ctx.Err()
	case errors.Is(err, errChanged):
		now, statErr := r.library.Stat(ctx, r.name)
		if statErr == nil && now.print() != r.was.print() {
			return connectors.Message{}, connectors.Fatal(errors.New(r.changed(r.name, r.was, now)))
		}
		return connectors.Message{}, connectors.Fatal(fmt.Errorf("%s, after %s: %w", r.whole(r.name), r.at, err))
	case errors.Is(err, os.ErrNotExist):
		return connectors.Message{}, connectors.Retry(0, fmt.Errorf("%s is gone, and was read up to %s: put it back, or reset the offsets of this file: %w", r.whole(r.name), r.at, err))
	case connectors.ClassOf(err) == connectors.ClassFatal:
		return connectors.Message{}, err
	case below:
		return connectors.Message{}, r.library.fault("read", r.name, errors.Join(err, closed))
	}
	return r.bad(err)
}

// bad is of a file whose bytes are not what they should be.
func (r *reader) bad(err error) (connectors.Message, error) {
	err = fmt.Errorf("%s cannot be read after %s: %w", r.whole(r.name), r.at, err)
	if !r.tolerant {
		return connectors.Message{}, connectors.Fatal(fmt.Errorf("%w; move the file away, or write bad_files: dead_letter to go on with others", err))
	}
	r.log.Warn("the rest of a file cannot be read", "error", err)
	r.at = place{Place: format.Place{Block: endOfFile}, number: r.at.number + 1, print: r.was.print()}
	r.resume, r.ended = true, true
	m := r.message()
	m.Original, m.Err = []byte(r.whole(r.name)), connectors.Poison(err)
	return m, nil
}

// unchanged looks at the file once more when it was read.
func (r *reader) unchanged(ctx context.Context) error {
	now, err := r.library.Stat(ctx, r.name)
	if err != nil {
		r.file.err = err
		return err
	}
	if now.print() != r.was.print() {
		r.file.err = errChanged
		return errChanged
	}
	return nil
}

// Committed implements connectors.Reader. A file does not care.
func (r *reader) Committed(context.Context, connectors.Position) error { return nil }

// Close implements connectors.Reader.
func (r *reader) Close(context.Context) error {
	return errors.Join(r.shut(), r.library.Close(tmpFolder))
}

// shut closes the file.
func (r *reader) shut() error {
	var err error
	if r.rows != nil {
		err = r.rows.Close()
	}
	if r.packed != nil {
		err = errors.Join(err, r.packed.Close())
	}
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	r.rows, r.packed, r.file = nil, nil, nil
	return err
}
