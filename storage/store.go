package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Store is one volume's directory.
type Store struct {
	fs       vfs.FS
	dir      string
	cfg      Config
	log      *slog.Logger
	lock     io.Closer
	handles  *handles
	tails    *tailCache
	encoders sync.Pool // of *encoder
	lender   lender
	zeros    []byte // Config.AheadBytes of them
	flush    *flusher
	idle     *idleLogs
	point    *pointFile
	disk     diskWatch
	known    known
	// planted are mistakes that the simulation plants to see that it notices
	// them, where no wrapper of the file system can: always zero elsewhere.
	planted struct{ skipOver, trustSize bool }

	mu struct {
		sync.Mutex
		logs    map[LogID]*Log
		seen    map[LogID]bool // opened or created by this process
		offline error
		closed  bool
	}
}

// Open takes ownership of a directory, creating it if it does not exist (its
// parent must), and makes everything in it durable, before anything is read
// (Invariant 9). It opens no log. It wraps ErrLocked when another process owns
// the directory, ErrFormat when the directory is of another version.
func Open(fsys vfs.FS, dir string, cfg Config) (*Store, error) {
	s, err := open(fsys, dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	return s, nil
}

func open(fsys vfs.FS, dir string, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{fs: fsys, dir: dir, cfg: cfg.withDefaults(), flush: newFlusher(), idle: newIdleLogs()}
	s.log = s.cfg.Logger
	s.encoders.New = func() any { return new(encoder) }
	s.handles = newHandles(fsys, s.cfg.MaxOpenFiles)
	s.zeros = make([]byte, max(0, s.cfg.AheadBytes))
	s.tails = newTailCache(s.cfg.TailCacheBytes)
	s.mu.logs, s.mu.seen = map[LogID]*Log{}, map[LogID]bool{}
	if err := fsys.Mkdir(dir); err == nil {
		if err := fsys.SyncDir(path.Dir(dir)); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	var err error
	if s.lock, err = takeLock(fsys, dir, s.cfg); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// begin prepares a directory that is locked.
func (s *Store) begin() error {
	if err := checkFormat(s.fs, s.dir); err != nil {
		return err
	}
	if err := s.fs.SyncFS(s.dir); err != nil {
		return err
	}
	// In this order: what a received log replaces is removed with the rest.
	if err := errors.Join(s.finishInstalls(), s.finishRemovals(), s.loadKnown()); err != nil {
		return err
	}
	s.point = readPoint(s.fs, path.Join(s.dir, pointName), s.log)
	if info, err := s.fs.Stat(path.Join(s.dir, reserveName)); err == nil && info.Size == s.cfg.ReserveBytes {
		s.disk.mu.status.Reserve = true
	}
	s.watchDisk(s.cfg.Clock())
	return nil
}

var logDirPattern = regexp.MustCompile(`-[0-9]+(@[0-9]+)?$`)

// dirName is the directory of a log. A topic name too long for one is cut, and
// made unique with its ID; the log's headers hold all of it.
func dirName(id LogID) string {
	if len(id.Topic) > 200 {
		id.Topic = id.Topic[:150] + "~" + id.ID.Hex()
	}
	return id.String()
}

// Logs lists the logs in the directory by what their newest readable header
// says, in the order of their names. Those of which no header can be read are
// left out: OpenLog says why.
func (s *Store) Logs() []LogID {
	names, err := s.fs.List(s.dir)
	if err != nil {
		s.log.Error("the data directory cannot be listed", "dir", s.dir, "error", err)
		return nil
	}
	var ids []LogID
	for _, name := range names {
		if !logDirPattern.MatchString(name) {
			continue
		}
		id, ok := s.identify(path.Join(s.dir, name))
		if !ok {
			s.log.Warn("a log directory has no readable segment", "dir", path.Join(s.dir, name))
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// identify reads the newest readable header of a log's directory.
func (s *Store) identify(dir string) (LogID, bool) {
	names, err := s.fs.List(dir)
	if err != nil {
		return LogID{}, false
	}
	for _, name := range slices.Backward(names) {
		if _, _, ok := parseSegmentName(name); !ok {
			continue
		}
		f, err := s.fs.Open(path.Join(dir, name))
		if err != nil {
			continue
		}
		h, err := readHeader(f)
		_ = f.Close()
		if err == nil {
			return h.id, true
		}
	}
	return LogID{}, false
}

func (s *Store) lookup(id LogID) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.logs[id]
}

// remember registers an opened log. If somebody else opened it meanwhile,
// theirs is returned.
func (s *Store) remember(l *Log) (*Log, error) {
	s.mu.Lock()
	other, closed := s.mu.logs[l.id], s.mu.closed
	if other == nil && !closed {
		s.mu.logs[l.id], s.mu.seen[l.id] = l, true
	}
	s.mu.Unlock()
	switch {
	case closed:
		l.shut()
		return nil, errClosed
	case other != nil:
		l.shut()
		return other, nil
	}
	if l.owes() {
		s.idle.flushed(l, s.cfg.Clock())
		s.flush.signal()
	}
	return l, nil
}

func (s *Store) forget(l *Log) {
	s.idle.forget(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.logs[l.id] == l {
		delete(s.mu.logs, l.id)
	}
}

// openLogs are the open logs in the order of their names.
func (s *Store) openLogs() []*Log {
	s.mu.Lock()
	logs := slices.Collect(maps.Values(s.mu.logs))
	s.mu.Unlock()
	sortLogs(logs)
	return logs
}

func sortLogs(logs []*Log) {
	slices.SortFunc(logs, func(a, b *Log) int {
		return cmp.Or(strings.Compare(a.id.Topic, b.id.Topic), cmp.Compare(a.id.Partition, b.id.Partition), cmp.Compare(a.id.Generation, b.id.Generation))
	})
}

// Close flushes what is pending, lets every log state its synced position,
// writes the recovery point and gives the directory back. Run must have
// returned.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.mu.Unlock()
	now := s.cfg.Clock()
	s.flushOnce(now, flushHow{all: true})
	logs := s.openLogs()
	for _, l := range logs {
		l.stateIdle()
	}
	for s.flushOnce(now, flushHow{all: true}) {
		// Until nothing is left: Done of a round may have appended another.
	}
	s.writePoint(now)
	var errs []error
	for _, l := range logs {
		errs = append(errs, l.Close())
	}
	errs = append(errs, s.lock.Close(), s.offline())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close data directory %s: %w", s.dir, err)
	}
	return nil
}
