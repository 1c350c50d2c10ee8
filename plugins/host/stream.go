package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// stream is one reader's or writer's stream, as both need it. Its methods are
// called by one goroutine at a time.
type stream[In any] struct {
	sess   *session
	what   string // for errors: the split, or the partitions
	frames chan *In
	err    error // why frames was closed; read after that
	cancel context.CancelFunc
	heard  time.Time // when the plugin last sent something that was waited for
}

// receive begins to hand on what comes. recv ends when cancel is called.
func receive[In any](sess *session, what string, cancel context.CancelFunc, recv func() (*In, error)) *stream[In] {
	s := &stream[In]{sess: sess, what: what, frames: make(chan *In), cancel: cancel, heard: time.Now()}
	stopped := make(chan struct{})
	s.cancel = func() {
		select {
		case <-stopped:
		default:
			close(stopped)
		}
		cancel()
	}
	go func() {
		defer close(s.frames)
		for {
			in, err := recv()
			if err != nil {
				s.err = err
				return
			}
			select {
			case s.frames <- in:
			case <-stopped:
				s.err = context.Canceled
				return
			}
		}
	}()
	return s
}

// sending calls send, and kills a process that does not take it for the
// plugin's timeout: it may answer for its health and leave its stream unread.
// It does not fail: what is wrong with the stream is what receiving says.
func (s *stream[In]) sending(send func() error) {
	limit := s.sess.plugin.cfg.timeout()
	late := time.AfterFunc(limit, func() { s.sess.kill(fmt.Sprintf("it took nothing for %s (%s)", limit, s.what)) })
	defer late.Stop()
	_ = send()
}

// errQuiet says that nothing came in the time that the caller had.
var errQuiet = errors.New("nothing came")

// next waits for what the plugin sends. It gives up with the context, after
// wait (0: only what is there, below 0: as long as it takes), and with a
// process that has not sent anything for the plugin's timeout, which it kills.
func (s *stream[In]) next(ctx context.Context, wait time.Duration) (*In, error) {
	select {
	case in, ok := <-s.frames:
		return s.got(in, ok)
	default:
	}
	if wait == 0 {
		return nil, errQuiet
	}
	limit := s.sess.plugin.cfg.timeout()
	hung := time.NewTimer(time.Until(s.heard.Add(limit)))
	defer hung.Stop()
	var quiet <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		quiet = t.C
	}
	select {
	case in, ok := <-s.frames:
		return s.got(in, ok)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-quiet:
		return nil, errQuiet
	case <-hung.C:
		s.sess.kill(fmt.Sprintf("it did not answer for %s (%s)", limit, s.what))
		<-s.sess.proc.ended
		return nil, connectors.Retry(0, fmt.Errorf("plugin %s: %s", s.sess.plugin.cfg.Name, s.sess.why()))
	}
}

func (s *stream[In]) got(in *In, ok bool) (*In, error) {
	s.heard = time.Now()
	if ok {
		return in, nil
	}
	if isEOF(s.err) {
		return nil, connectors.Retry(0, fmt.Errorf("plugin %s: it ended the stream of %s", s.sess.plugin.cfg.Name, s.what))
	}
	return nil, s.sess.fault(s.err)
}

// end gives the stream up and awaits its goroutine.
func (s *stream[In]) end() {
	s.cancel()
	for range s.frames { // until it is closed
	}
}

// violation is a breach of the protocol by the plugin.
func (s *stream[In]) violation(format string, args ...any) error {
	return connectors.Fatalf("plugin %s, %s: %w", s.sess.plugin.cfg.Name, s.what, fmt.Errorf(format, args...))
}
