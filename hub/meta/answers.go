package meta

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// keepAnswers is how many results of commands are kept: a node that is so many
// commands behind the one that it has asked for learns nothing of it.
const keepAnswers = 4096

// answers is the catalog's machine with what its newest commands yielded, by
// Raft index: a command that another node committed has its result here.
type answers struct {
	*catalog.Machine
	expected expected

	mu struct {
		sync.Mutex
		newest [keepAnswers]answer // by index modulo
		more   chan struct{}       // closed at the next command
	}
}

type answer struct {
	index  uint64
	result catalog.Result
}

func newAnswers() *answers {
	a := &answers{Machine: catalog.NewMachine()}
	a.mu.more = make(chan struct{})
	return a
}

// Apply implements replica.Machine. It yields an answer.
func (a *answers) Apply(index uint64, cmd []byte) any {
	one := answer{index, a.Machine.Apply(index, cmd).(catalog.Result)}
	a.expected.applied(one.result)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.newest[index%keepAnswers] = one
	close(a.mu.more)
	a.mu.more = make(chan struct{})
	return one
}

// Restore implements replica.Machine.
func (a *answers) Restore(b []byte) error {
	defer a.expected.skipped()
	return a.Machine.Restore(b)
}

func (a *answers) look(index uint64) (one answer, more <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.newest[index%keepAnswers], a.mu.more
}

// applying is a group as wait sees it.
type applying interface {
	Changed() <-chan struct{}
	Status() replica.Status
}

// wait returns the result of the command at an index, once it is applied here.
func (a *answers) wait(ctx context.Context, index uint64, group applying) (catalog.Result, error) {
	for {
		changed := group.Changed()
		past := group.Status().Applied >= index
		one, more := a.look(index)
		switch {
		case one.index == index:
			return one.result, nil
		case past || one.index > index:
			// It came with a snapshot, or it is long ago.
			return catalog.Result{}, fmt.Errorf("the catalog: %w: the command at index %d is applied, what came of it is not known here", record.ErrTimeout, index)
		}
		again := time.NewTimer(proposeAgain) // nobody is woken by a snapshot
		select {
		case <-more:
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return catalog.Result{}, fmt.Errorf("the catalog: %w: this node has not applied index %d yet", record.ErrTimeout, index)
		}
	}
}
