package hub

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/plugins/host"
)

// openPlugins starts the programs that bring connectors, which jobs files may
// then name like the built-in ones.
func (h *Hub) openPlugins(ctx context.Context) error {
	opts := host.Options{Logger: h.log.With("part", "plugins"), Version: h.deps.Version, Getenv: os.LookupEnv}
	var err error
	if h.plugins, err = host.Open(ctx, h.cfg.Plugins, opts); err == nil {
		h.deps.Registry, err = h.plugins.Registry(h.deps.Registry)
	}
	if err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	return nil
}

// Plugins starts the programs that a node's file names, for a check of what
// uses them, and adds what they have to base. The caller ends them with the
// function, also after errors. An error is at the program's entry in the file.
func Plugins(ctx context.Context, file string, text []byte, base connectors.Registry, opts host.Options) (connectors.Registry, func(), strict.Errors) {
	c, errs := Parse(file, text, Default(), strict.FromOS())
	if len(errs) > 0 {
		return base, func() {}, errs
	}
	programs, err := host.Open(ctx, c.Plugins, opts)
	if err != nil {
		return base, func() {}, strict.Errors{pluginError(file, text, err)}
	}
	all, err := programs.Registry(base)
	if err != nil {
		return base, programs.Close, strict.Errors{pluginError(file, text, err)}
	}
	return all, programs.Close, nil
}

func pluginError(file string, text []byte, err error) *strict.Error {
	root, _ := strict.Parse(file, text)
	if bad, ok := errors.AsType[*host.Error](err); ok {
		return pluginNode(root, bad.Index, "path").Errorf("%v", err)
	}
	return root.Errorf("%v", err)
}

// pluginNode is where a key of an entry of plugins: stands, as near as there is
// one.
func pluginNode(root strict.Node, index int, key string) strict.Node {
	list, ok := root.Get("plugins")
	if !ok || index >= len(list.Items()) {
		return root
	}
	if at, ok := list.Items()[index].Get(key); ok {
		return at
	}
	return list.Items()[index]
}

// checkPlugins looks at the entries without touching anything.
func (c Config) checkPlugins(root strict.Node) (errs strict.Errors) {
	names := map[string]bool{}
	for i, p := range c.Plugins {
		if key, err := p.Validate(); err != nil {
			errs = append(errs, pluginNode(root, i, key).Errorf("%v", err))
		}
		if names[p.Name] {
			errs = append(errs, pluginNode(root, i, "name").Errorf("there are two plugins %q", p.Name))
		}
		names[p.Name] = true
	}
	return errs
}
