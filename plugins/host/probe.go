package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Program is what a program says about itself.
type Program struct {
	Name       string // in the list
	Says       string // its own name
	Version    string
	Connectors []Described
}

// Described is one of its connectors.
type Described struct {
	Kind         string // source or sink
	Spec         connectors.Spec
	Queue, Paced bool
}

// Programs says what each program has.
func (h *Host) Programs() (all []Program) {
	for _, p := range h.plugins {
		one := Program{Name: p.cfg.Name, Says: p.name, Version: p.version}
		for _, typ := range sorted(p.sources) {
			_, queue := p.sources[typ].(connectors.Queue)
			_, paced := p.sources[typ].(connectors.Paced)
			one.Connectors = append(one.Connectors, Described{Kind: "source", Spec: p.sources[typ].Spec(), Queue: queue, Paced: paced})
		}
		for _, typ := range sorted(p.sinks) {
			one.Connectors = append(one.Connectors, Described{Kind: "sink", Spec: p.sinks[typ].Spec()})
		}
		all = append(all, one)
	}
	return all
}

// Kill ends the processes that run at once, as a crash would. The next use of
// a connector starts its program again.
func (h *Host) Kill() {
	for _, p := range h.plugins {
		if s := p.running(); s != nil {
			s.kill("it was killed to see what is left of its work")
			<-s.proc.ended
		}
	}
}

// Start starts the programs that do not run. An error of class Retry says that
// one is not due yet, or was not ready.
func (h *Host) Start(ctx context.Context) error {
	for _, p := range h.plugins {
		if _, err := p.session(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Orphan does to the processes what the end of a hub does, however it comes:
// their standard input ends. It returns an error for one that still runs when
// ctx ends.
func (h *Host) Orphan(ctx context.Context) error {
	for _, p := range h.plugins {
		s := p.running()
		if s == nil {
			continue
		}
		_ = s.proc.stdin.Close()
		select {
		case <-s.proc.ended:
		case <-ctx.Done():
			return fmt.Errorf("plugin %s still runs after its standard input has ended: it would outlive its hub", p.cfg.Name)
		}
	}
	return nil
}

// End closes the host and returns an error for a process that had to be killed.
func (h *Host) End() error {
	var errs []error
	for _, p := range h.plugins {
		s := p.running()
		p.close()
		if s != nil && s.proc.err != nil {
			errs = append(errs, fmt.Errorf("plugin %s was asked to end and ended by %s, want exit status 0 within two seconds", p.cfg.Name, s.proc.state()))
		}
	}
	return errors.Join(errs...)
}

// running is the process that runs at present; nil: none.
func (p *plugin) running() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.live == nil || p.mu.live.over() {
		return nil
	}
	return p.mu.live
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
