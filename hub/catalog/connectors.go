package catalog

import (
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/entrepot-hub/entrepot/record"
)

// SetConnector makes a connector, or gives it another configuration. Config is
// kept as it was sent: flat, references unresolved. What it means is the
// business of who reads it.
type SetConnector struct {
	Name   string
	Config map[string]string
	New    bool `json:",omitempty"` // refused if there is one of the name
	// Desired is what is wanted of it at first; empty leaves what is wanted now.
	Desired string `json:",omitempty"`
}

// DeleteConnector forgets a connector and what the operator wanted of it.
type DeleteConnector struct{ Name string }

func (SetConnector) kind() byte    { return kindSetConnector }
func (DeleteConnector) kind() byte { return kindDeleteConnector }

// The most that is kept: what everybody has to hold in memory and in snapshots.
const (
	maxConnectors      = 10_000
	maxConnectorConfig = 256 << 10 // keys and values, in bytes
)

// Connectors are the connectors that were made through the API, each with its
// configuration. Neither map may be changed.
func (s *State) Connectors() map[string]map[string]string { return s.connectors }

func (s *State) setConnector(c SetConnector) (*State, any, error) {
	if err := checkConnector(c.Name, c.Config); err != nil {
		return nil, nil, err
	}
	_, there := s.connectors[c.Name]
	if there && c.New {
		return nil, nil, fmt.Errorf("%w: there is a connector %q already", record.ErrInvalidRequest, c.Name)
	}
	if !there && len(s.connectors) >= maxConnectors {
		return nil, nil, fmt.Errorf("%w: the site has %d connectors, which is the most", record.ErrInvalidRequest, len(s.connectors))
	}
	next := s
	if c.Desired != "" {
		var err error
		if next, _, err = s.setJob(SetJob{c.Name, c.Desired}); err != nil {
			return nil, nil, err
		}
	}
	copied := *next
	next = &copied
	next.connectors = maps.Clone(s.connectors)
	if next.connectors == nil {
		next.connectors = map[string]map[string]string{}
	}
	next.connectors[c.Name] = maps.Clone(c.Config)
	return next, nil, nil
}

func (s *State) deleteConnector(c DeleteConnector) (*State, any, error) {
	if _, there := s.connectors[c.Name]; !there {
		return nil, nil, fmt.Errorf("%w: there is no connector %q", record.ErrInvalidRequest, c.Name)
	}
	next := *s
	next.connectors, next.jobs = maps.Clone(s.connectors), maps.Clone(s.jobs)
	delete(next.connectors, c.Name)
	delete(next.jobs, c.Name)
	return &next, nil, nil
}

func checkConnector(name string, config map[string]string) error {
	if err := checkName("connector", name); err != nil {
		return err
	}
	size := 0
	for k, v := range config {
		size += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: the configuration of connector %q is not UTF-8", record.ErrInvalidRequest, name)
		}
	}
	switch {
	case len(config) == 0:
		return fmt.Errorf("%w: connector %q has no configuration", record.ErrInvalidRequest, name)
	case size > maxConnectorConfig:
		return fmt.Errorf("%w: the configuration of connector %q has %d bytes, the most is %d", record.ErrInvalidRequest, name, size, maxConnectorConfig)
	}
	return nil
}
