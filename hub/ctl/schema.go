package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

const defaultRegistry = "http://127.0.0.1:8081"

// schemaRow is a schema as the registry's API gives it.
type schemaRow struct {
	Subject    string            `json:"subject"`
	Version    int               `json:"version"`
	ID         int               `json:"id"`
	Type       string            `json:"schemaType,omitempty"` // Avro when empty
	References []schemaReference `json:"references,omitempty"`
	Schema     string            `json:"schema"`
	Deleted    bool              `json:"deleted,omitempty"`
}

type schemaReference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

func (s schemaRow) format() string {
	if s.Type == "" {
		return "AVRO"
	}
	return s.Type
}

func (c *cli) schemaCommand() *cobra.Command {
	cmd := noun("schema", "Show and change what the schema registry has",
		c.reading(c.schemaList()), c.reading(c.schemaShow()), c.reading(c.schemaRegister()), c.reading(c.schemaCheck()), c.reading(c.schemaDelete()))
	registry := c.getenv("ENTREPOT_REGISTRY")
	if registry == "" {
		registry = defaultRegistry
	}
	c.tlsFlags(cmd)
	c.userFlags(cmd)
	cmd.PersistentFlags().StringVar(&c.registry, "registry", registry, "`URL` of the schema registry; or ENTREPOT_REGISTRY")
	return cmd
}

func (c *cli) schemaList() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "List the latest version of each subject",
		Example: "  entrepot schema list\n  entrepot schema list clicks --deleted",
		Args:    atMost("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"latestOnly": {"true"}, "deleted": {strconv.FormatBool(deleted)}}
			if len(args) > 0 {
				query.Set("subjectPrefix", args[0])
			}
			rows := []schemaRow{}
			if err := c.schemas(cmd.Context(), http.MethodGet, "/schemas?"+query.Encode(), nil, &rows); err != nil {
				return err
			}
			return c.print(rows, func(w io.Writer) {
				t := newTable("no schema is registered", "SUBJECT", ">VERSION", ">ID", "TYPE", "STATE")
				for _, s := range rows {
					state := "live"
					if s.Deleted {
						state = "deleted"
					}
					t.row(s.Subject, strconv.Itoa(s.Version), strconv.Itoa(s.ID), s.format(), state)
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "also those that were deleted, but not for good")
	return cmd
}

func (c *cli) schemaShow() *cobra.Command {
	version := ""
	cmd := &cobra.Command{
		Use:     "show SUBJECT",
		Short:   "Show a schema",
		Example: "  entrepot schema show clicks-value\n  entrepot schema show clicks-value --version 3",
		Args:    exactly("SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s schemaRow
			if err := c.schemas(cmd.Context(), http.MethodGet, subjectPath(args[0])+"/versions/"+url.PathEscape(version), nil, &s); err != nil {
				return err
			}
			return c.print(s, func(w io.Writer) {
				facts(w, "subject", s.Subject, "version", strconv.Itoa(s.Version), "id", strconv.Itoa(s.ID), "type", s.format())
				for _, r := range s.References {
					fmt.Fprintf(w, "refers to %s: %s version %d\n", r.Name, r.Subject, r.Version)
				}
				fmt.Fprintf(w, "\n%s\n", strings.TrimRight(s.Schema, "\n"))
			})
		},
	}
	cmd.Flags().StringVar(&version, "version", "latest", "`NUMBER` of the version, or latest")
	return cmd
}

// schemaInput is what register and check send, from flags and a file.
type schemaInput struct {
	format     string
	references []string
}

func (in *schemaInput) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.format, "type", "", "`TYPE` of the schema: avro, json or protobuf (default: avro for .avsc, json for .json, protobuf for .proto)")
	cmd.Flags().StringSliceVar(&in.references, "reference", nil, "`NAME=SUBJECT:VERSION` of a schema that it refers to; may be given again")
}

func (in *schemaInput) body(cmd *cobra.Command, file string) (map[string]any, error) {
	text, err := readInput(cmd, file)
	if err != nil {
		return nil, err
	}
	kind := strings.ToUpper(in.format)
	if kind == "" {
		kind = map[string]string{".avsc": "AVRO", ".json": "JSON", ".proto": "PROTOBUF"}[filepath.Ext(file)]
	}
	if kind == "" {
		return nil, usagef("the name %s does not say what kind of schema it is; give --type avro, json or protobuf", file)
	}
	references := []schemaReference{}
	for _, r := range in.references {
		name, rest, ok := strings.Cut(r, "=")
		i := strings.LastIndexByte(rest, ':')
		if !ok || i < 0 {
			return nil, usagef("--reference %s: want NAME=SUBJECT:VERSION, such as money.proto=money:1", r)
		}
		version, err := strconv.Atoi(rest[i+1:])
		if err != nil {
			return nil, usagef("--reference %s: the version %q is no number", r, rest[i+1:])
		}
		references = append(references, schemaReference{name, rest[:i], version})
	}
	return map[string]any{"schema": string(text), "schemaType": kind, "references": references}, nil
}

// readInput reads a file; - is the standard input.
func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxAnswer))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, UsageError{err}
	}
	return text, nil
}

func (c *cli) schemaRegister() *cobra.Command {
	var in schemaInput
	cmd := &cobra.Command{
		Use:     "register SUBJECT FILE",
		Short:   "Register a schema from a file, or from standard input with -",
		Example: "  entrepot schema register clicks-value click.avsc\n  entrepot schema register sale-value sale.proto --reference money.proto=money:1",
		Args:    exactly("SUBJECT", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := in.body(cmd, args[1])
			if err != nil {
				return err
			}
			var got struct {
				ID int `json:"id"`
			}
			if err := c.schemas(cmd.Context(), http.MethodPost, subjectPath(args[0])+"/versions", body, &got); err != nil {
				return err
			}
			return c.print(got, func(w io.Writer) { fmt.Fprintf(w, "registered under %s with id %d\n", args[0], got.ID) })
		},
	}
	in.flags(cmd)
	return cmd
}

func (c *cli) schemaCheck() *cobra.Command {
	var in schemaInput
	cmd := &cobra.Command{
		Use:     "check SUBJECT FILE",
		Short:   "Say whether a schema could be registered",
		Long:    "Say whether a schema is compatible with what the subject has, as its level wants\nit. Nothing is changed. The exit status is 1 if it is not.",
		Example: "  entrepot schema check clicks-value click.avsc",
		Args:    exactly("SUBJECT", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := in.body(cmd, args[1])
			if err != nil {
				return err
			}
			var got struct {
				Compatible bool     `json:"is_compatible"`
				Messages   []string `json:"messages"`
			}
			if err := c.schemas(cmd.Context(), http.MethodPost, "/compatibility"+subjectPath(args[0])+"/versions?verbose=true", body, &got); err != nil {
				return err
			}
			err = c.print(got, func(w io.Writer) {
				if got.Compatible {
					fmt.Fprintf(w, "compatible with %s\n", args[0])
				}
				for _, m := range got.Messages {
					fmt.Fprintln(w, m)
				}
			})
			if err == nil && !got.Compatible {
				return fmt.Errorf("the schema is not compatible with %s", args[0])
			}
			return err
		},
	}
	in.flags(cmd)
	return cmd
}

func (c *cli) schemaDelete() *cobra.Command {
	var version string
	var permanent bool
	cmd := &cobra.Command{
		Use:   "delete SUBJECT",
		Short: "Delete a subject, or one version of it",
		Long: `Delete a subject, or one version of it. Its schemas can still be read by ID, until
they are deleted for good with --permanent, which wants them to be deleted
before. Data that was written with them cannot be read after that.`,
		Example: "  entrepot schema delete clicks-value --version 3\n  entrepot schema delete clicks-value --permanent",
		Args:    exactly("SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := subjectPath(args[0])
			if version != "" {
				path += "/versions/" + url.PathEscape(version)
			}
			var gone json.RawMessage
			if err := c.schemas(cmd.Context(), http.MethodDelete, path+"?permanent="+strconv.FormatBool(permanent), nil, &gone); err != nil {
				return err
			}
			return c.print(gone, func(w io.Writer) {
				fmt.Fprintf(w, "deleted version %s of %s\n", strings.ReplaceAll(strings.Trim(string(gone), "[]\n"), ",", ", "), args[0])
			})
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "`NUMBER` of the version, or latest; without it all versions")
	cmd.Flags().BoolVar(&permanent, "permanent", false, "delete for good what is deleted already")
	return cmd
}

func subjectPath(subject string) string { return "/subjects/" + url.PathEscape(subject) }

// schemas makes one request of the registry. What it refuses is said in its own
// words.
func (c *cli) schemas(ctx context.Context, method, path string, body, into any) error {
	return c.request(ctx, endpoint{c.registry, "--registry", defaultRegistry, "a schema registry", c.access.username != ""}, method, path, body, into)
}
