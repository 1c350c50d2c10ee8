package ctl

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) connectorOffsets() *cobra.Command {
	return noun("offsets", "Show and change how far a connector is",
		c.reading(c.offsetsGet()), c.offsetsSet(), c.offsetsReset())
}

func offsetsPath(name string) string { return "/v1/jobs/" + url.PathEscape(name) + "/offsets" }

func (c *cli) offsetsGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME",
		Short:   "Show how far a connector is: positions of a source, offsets of a sink",
		Example: "  entrepot connector offsets get clicks-lake --json",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []admin.Offset
			if err := c.get(cmd.Context(), offsetsPath(args[0]), &all); err != nil {
				return err
			}
			return c.print(all, func(w io.Writer) { writeOffsets(w, all) })
		},
	}
}

func writeOffsets(w io.Writer, all []admin.Offset) {
	t := newTable("nothing has been committed yet", "PART", "AT", "POSITION")
	for _, o := range all {
		if o.Split == "" {
			t.row(fmt.Sprintf("%s-%d", o.Topic, o.Partition), grouped(o.Offset), "-")
			continue
		}
		t.row(o.Split, dash(o.Where), dash(base64.StdEncoding.EncodeToString(o.Position)))
	}
	t.write(w)
}

func (c *cli) offsetsSet() *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME FILE",
		Short: "Move parts of a stopped connector to the offsets in a file",
		Long: "Move parts of a connector that is stopped or paused. FILE holds what `connector offsets\n" +
			"get --json` prints, or a part of it; - is the standard input. What lies behind the new\n" +
			"place is read again: a source writes it to its topic once more.",
		Example: "  entrepot connector offsets set clicks-lake offsets.json",
		Args:    exactly("NAME", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readInput(cmd, args[1])
			if err != nil {
				return err
			}
			var to, all []admin.Offset
			if err := json.Unmarshal(text, &to); err != nil {
				return usagef("%s: want a list as `connector offsets get --json` prints it: %w", args[1], err)
			}
			if err := c.send(cmd.Context(), http.MethodPut, offsetsPath(args[0]), to, &all); err != nil {
				return err
			}
			writeOffsets(c.out, all)
			return nil
		},
	}
}

func (c *cli) offsetsReset() *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME",
		Short: "Let a stopped connector begin anew",
		Long: "Forget how far a connector is that is stopped or paused. A source reads all of its system\n" +
			"again; a sink begins as `start` says, unless its destination keeps the offset itself.",
		Example: "  entrepot connector offsets reset clicks-lake",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []admin.Offset
			if err := c.call(cmd.Context(), http.MethodDelete, offsetsPath(args[0]), &all); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "connector %s begins anew when it is resumed\n", args[0])
			return nil
		},
	}
}
