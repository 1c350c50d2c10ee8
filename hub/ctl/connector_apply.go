package ctl

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/connect"
)

const defaultConnect = "http://127.0.0.1:8083"

// connectFlags say where the REST API for connectors is.
func (c *cli) connectFlags(cmd *cobra.Command) *cobra.Command {
	to := c.getenv("ENTREPOT_CONNECT")
	if to == "" {
		to = defaultConnect
	}
	c.userFlags(cmd)
	cmd.Flags().StringVar(&c.connect, "connect", to, "`URL` of the REST API for connectors; or ENTREPOT_CONNECT")
	return cmd
}

// rest makes one request of the REST API for connectors.
func (c *cli) rest(ctx context.Context, method, path string, body, into any) error {
	to := endpoint{c.connect, "--connect", defaultConnect, "the REST API for connectors", c.access.username != ""}
	return c.request(ctx, to, method, path, body, into)
}

func connectorPath(name string) string { return "/connectors/" + url.PathEscape(name) }

// applied is what apply has done, or would do, with one connector.
type applied struct {
	Name    string               `json:"name"`
	Action  string               `json:"action"` // create, change or keep
	Changes map[string][2]string `json:"changes"`
}

func (c *cli) connectorApply() *cobra.Command {
	var file, node string
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make or change the connectors of a jobs file at a running site",
		Long: `Make or change the connectors of a jobs file at a running site, and show what
is different. References such as ${env:NAME} are looked up by the site, not here.
Secrets that are written out are set, and not compared. Topics and tests of the
file, and connectors of the site that are not in it, are left alone.`,
		Example: "  entrepot connector apply -f warehouse.yaml\n  entrepot connector apply -f warehouse.yaml --dry-run --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("which file? give -f FILE")
			}
			end, err := c.withPlugins(cmd.Context(), node)
			if err != nil {
				return err
			}
			defer end()
			all, names, err := c.flatFile(file)
			if err != nil {
				return err
			}
			have, err := c.siteConnectors(cmd.Context())
			if err != nil {
				return err
			}
			results := []applied{}
			for _, name := range names {
				results = append(results, c.compare(name, all[name], have[name]))
				if dry {
					continue
				}
				if err := c.rest(cmd.Context(), http.MethodPut, connectorPath(name)+"/config", all[name], nil); err != nil {
					return fmt.Errorf("connector %s: %w", name, err)
				}
			}
			return c.print(results, func(w io.Writer) { writeApplied(w, results) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "jobs `FILE`")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what is different")
	nodeFlag(cmd, &node)
	return c.connectFlags(c.reading(cmd))
}

// flatFile reads the connectors of a jobs file in their flat form.
func (c *cli) flatFile(path string) (all map[string]map[string]string, names []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, UsageError{err}
	}
	root, errs := strict.Parse(path, text)
	if len(errs) > 0 {
		return nil, nil, errs
	}
	all = map[string]map[string]string{}
	list, _ := root.Get("connectors")
	for _, n := range list.Items() {
		flat, ok := connect.Flat(c.deps.Registry, n)
		if !ok || flat["name"] == "" {
			return nil, nil, strict.Errors{n.Errorf("this is no connector: want a name, and source or sink of a type that there is")}
		}
		name := flat["name"]
		delete(flat, "name")
		names = append(names, name)
		all[name] = flat
	}
	if len(names) == 0 {
		return nil, nil, usagef("%s has no connectors", path)
	}
	return all, names, nil
}

// siteConnectors are the connectors of the site, with their configuration as
// the site shows it.
func (c *cli) siteConnectors(ctx context.Context) (map[string]map[string]string, error) {
	var list map[string]struct {
		Info struct {
			Config map[string]string `json:"config"`
		} `json:"info"`
	}
	if err := c.rest(ctx, http.MethodGet, "/connectors?expand=info", nil, &list); err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	for name, one := range list {
		delete(one.Info.Config, "name")
		all[name] = one.Info.Config
	}
	return all, nil
}

// compare tells what is to be done with one connector; have is nil where the
// site does not have it.
func (c *cli) compare(name string, flat, have map[string]string) applied {
	out := applied{Name: name, Action: "create", Changes: map[string][2]string{}}
	want := connect.Mask(c.deps.Registry, flat)
	for key := range want {
		if want[key] != have[key] {
			out.Changes[key] = [2]string{have[key], want[key]}
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			out.Changes[key] = [2]string{have[key], ""}
		}
	}
	switch {
	case have == nil:
	case len(out.Changes) > 0:
		out.Action = "change"
	default:
		out.Action = "keep"
	}
	return out
}

func writeApplied(w io.Writer, all []applied) {
	for _, a := range all {
		fmt.Fprintf(w, "%s: %s\n", a.Name, a.Action)
		for _, key := range slices.Sorted(maps.Keys(a.Changes)) {
			if before := a.Changes[key][0]; before != "" {
				fmt.Fprintf(w, "  - %s: %s\n", key, before)
			}
			if after := a.Changes[key][1]; after != "" {
				fmt.Fprintf(w, "  + %s: %s\n", key, after)
			}
		}
	}
}

// connectorDelete forgets a connector of the catalog.
func (c *cli) connectorDelete() *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "delete NAME", Short: "Delete a connector that was made at the running site",
		Example: "  entrepot connector delete clicks-lake", Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.rest(cmd.Context(), http.MethodDelete, connectorPath(args[0]), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "connector %s is deleted\n", args[0])
			return nil
		},
	})
}
