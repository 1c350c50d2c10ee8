package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"

	"github.com/entrepot-hub/entrepot/connectors"
)

// hdfsStore keeps files in HDFS, over its own protocol. A file without a name
// is one under _tmp; to publish it is to rename it.
//
// The driver has two limits. It does not repair a pipeline of datanodes: an
// error while writing fails the plan, which is then written again from its
// beginning. And its rename overwrites, so Publish looks first; between the
// look and the rename only another owner of the same plan can put a file there,
// which has the same rows. Where that would not do, for the pinned columns,
// the name is claimed first: see PutNew.
type hdfsStore struct {
	client *hdfs.Client
	loc    location
	clock  func() time.Time
}

func openHDFS(ctx context.Context, l location, user string) (*hdfsStore, error) {
	dial := (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	client, err := hdfs.NewClient(hdfs.ClientOptions{Addresses: l.hosts, User: user, NamenodeDialFunc: dial, DatanodeDialFunc: dial})
	if err != nil {
		return nil, connectors.Retry(0, fmt.Errorf("connect to %s: %w", l, err))
	}
	return &hdfsStore{client: client, loc: l, clock: time.Now}, ctx.Err()
}

const dialTimeout = 30 * time.Second

func (s *hdfsStore) path(name string) string { return path.Join(s.loc.dir, name) }

func (s *hdfsStore) Exists(_ context.Context, name string) (bool, error) {
	_, err := s.client.Stat(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *hdfsStore) Read(_ context.Context, name string) ([]byte, error) {
	return s.client.ReadFile(s.path(name))
}

func (s *hdfsStore) List(_ context.Context, folder string) ([]string, error) {
	all, err := s.client.ReadDir(s.path(folder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names, err
}

func (s *hdfsStore) Prepare(_ context.Context, folders []string) error {
	for _, f := range folders {
		if err := s.client.MkdirAll(s.path(f), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// Settle has nothing to do: the namenode's journal has what it answered.
func (*hdfsStore) Settle(context.Context, []string) error { return nil }

// claimAge is how old a claim has to be until its owner counts as dead.
const claimAge = time.Minute

// claimPause is far more than there is between a look at a claim and its
// removal.
const claimPause = time.Second

// PutNew claims the name with a file that is created only where none is, and
// then renames the content to it. An owner that dies in between leaves the
// claim; the next one removes it when it is claimAge old.
func (s *hdfsStore) PutNew(ctx context.Context, tmp, name string, text []byte) error {
	claim := path.Join(folderOf(tmp), "claim+"+strings.ReplaceAll(name, "/", "+"))
	if err := s.Prepare(ctx, []string{folderOf(tmp), folderOf(name)}); err != nil {
		return err
	}
	// The content first, so that a claim is held only for the rename.
	if err := errors.Join(s.remove(tmp), s.put(ctx, tmp, text)); err != nil {
		return err
	}
	if err := s.claim(ctx, claim, name); err != nil {
		return errors.Join(err, s.remove(tmp))
	}
	taken, err := s.Exists(ctx, name)
	if err == nil && taken {
		err = os.ErrExist
	}
	if err == nil {
		err = s.client.Rename(s.path(tmp), s.path(name))
	}
	return errors.Join(err, s.remove(claim), s.remove(tmp))
}

// claim takes a name for as long as the rename takes. One that a dead owner has
// left goes first, and then a while passes: others who have found it old as well
// must not remove the new one.
func (s *hdfsStore) claim(ctx context.Context, claim, name string) error {
	err := s.put(ctx, claim, nil)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	taken, err := s.Exists(ctx, name)
	if err != nil {
		return err
	}
	if taken {
		return os.ErrExist
	}
	busy := fmt.Errorf("another task is about to write %s, or died over it", name)
	info, err := s.client.Stat(s.path(claim))
	switch {
	case errors.Is(err, os.ErrNotExist): // its owner is done with it just now
		return busy
	case err != nil:
		return err
	case s.clock().Sub(info.ModTime()) <= claimAge:
		return busy
	}
	if err := s.remove(claim); err != nil {
		return err
	}
	if err := connectors.Pause(ctx, claimPause); err != nil {
		return err
	}
	if err := s.put(ctx, claim, nil); !errors.Is(err, os.ErrExist) {
		return err
	}
	return busy
}

// put writes a small file that is not there, or fails with os.ErrExist.
func (s *hdfsStore) put(ctx context.Context, name string, text []byte) error {
	f, err := s.client.Create(s.path(name))
	if err != nil {
		return err
	}
	if len(text) > 0 {
		_, err = f.Write(text)
	}
	return errors.Join(err, closeHDFS(ctx, f))
}

// closeHDFS completes a file. The namenode takes a while to hear of the last
// block from the datanodes; the pauses double, as those of Hadoop's client do.
func closeHDFS(ctx context.Context, f io.Closer) error {
	for pause := 20 * time.Millisecond; ; pause *= 2 {
		err := f.Close()
		if !hdfs.IsErrReplicating(err) || pause > maxClosePause {
			return err
		}
		if err := connectors.Pause(ctx, pause); err != nil {
			return err
		}
	}
}

// maxClosePause is the last pause of about 20 seconds.
const maxClosePause = 10 * time.Second

func (s *hdfsStore) remove(name string) error {
	if err := s.client.Remove(s.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *hdfsStore) Sweep(ctx context.Context, tmpFolder string, mine func(string) bool) error {
	names, err := s.List(ctx, tmpFolder)
	for _, name := range names {
		if err == nil && (mine(name) || s.abandoned(path.Join(tmpFolder, name))) {
			err = s.remove(path.Join(tmpFolder, name))
		}
	}
	return err
}

// abandoned tells of a claim whose owner counts as dead.
func (s *hdfsStore) abandoned(name string) bool {
	if !strings.HasPrefix(path.Base(name), "claim+") {
		return false
	}
	info, err := s.client.Stat(s.path(name))
	return err == nil && s.clock().Sub(info.ModTime()) > claimAge
}

func (s *hdfsStore) Close(string) error { return s.client.Close() }

func (s *hdfsStore) fault(what, name string, err error) error {
	return remoteFault(fmt.Errorf("%s %s/%s: %w", what, s.loc, name, err))
}

func (s *hdfsStore) Create(ctx context.Context, tmp, target string) (pending, error) {
	if err := s.Prepare(ctx, []string{folderOf(tmp)}); err != nil {
		return nil, err
	}
	if err := s.remove(tmp); err != nil {
		return nil, err
	}
	w, err := s.client.Create(s.path(tmp))
	if err != nil {
		return nil, err
	}
	return &hdfsFile{FileWriter: w, store: s, tmp: tmp, target: target}, nil
}

type hdfsFile struct {
	*hdfs.FileWriter
	store       *hdfsStore
	tmp, target string
	closed      bool
}

func (f *hdfsFile) Complete(ctx context.Context) error {
	f.closed = true
	return closeHDFS(ctx, f.FileWriter)
}

func (f *hdfsFile) Publish(ctx context.Context) error {
	taken, err := f.store.Exists(ctx, f.target)
	if err != nil {
		return err
	}
	if taken {
		return os.ErrExist
	}
	return f.store.client.Rename(f.store.path(f.tmp), f.store.path(f.target))
}

// Discard removes the file first: one that is broken cannot be closed.
func (f *hdfsFile) Discard(context.Context) error {
	err := f.store.remove(f.tmp)
	if !f.closed {
		f.closed = true
		_ = f.FileWriter.Close()
	}
	return err
}
