package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (c *cli) userCommand() *cobra.Command {
	return c.kafka(noun("user", "Create, list and delete users that log in with SCRAM or PLAIN",
		c.userCreate(), c.reading(c.userList()), c.userDelete()))
}

var scramNames = map[string]kadm.ScramMechanism{"SCRAM-SHA-256": kadm.ScramSha256, "SCRAM-SHA-512": kadm.ScramSha512}

// scramMechanisms are those that a list of names means; none is both.
func scramMechanisms(names []string) ([]kadm.ScramMechanism, error) {
	if len(names) == 0 {
		return []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512}, nil
	}
	var all []kadm.ScramMechanism
	for _, name := range names {
		m, ok := scramNames[name]
		if !ok {
			return nil, usagef("--mechanism %q: want SCRAM-SHA-256 or SCRAM-SHA-512", name)
		}
		all = append(all, m)
	}
	return all, nil
}

func (c *cli) userCreate() *cobra.Command {
	var names []string
	var file string
	var iterations int32
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a user, or give one a new password",
		Long: `Create a user with the password in a file, or give one that is there a new
password. Of the password only SCRAM's keys are kept; with them the user can log
in with SCRAM and PLAIN.`,
		Example: "  entrepot user create alice --new-password-file alice.password",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mechanisms, err := scramMechanisms(names)
			if err != nil {
				return err
			}
			password, err := readPassword("--new-password-file", file)
			if err != nil {
				return err
			}
			var set []kadm.UpsertSCRAM
			for _, m := range mechanisms {
				set = append(set, kadm.UpsertSCRAM{User: args[0], Mechanism: m, Iterations: iterations, Password: password})
			}
			return c.alterUser(cmd.Context(), "created", args[0], nil, set)
		},
	}
	cmd.Flags().StringSliceVar(&names, "mechanism", nil, "SCRAM-SHA-256 or SCRAM-SHA-512; both without it")
	cmd.Flags().StringVar(&file, "new-password-file", "", "the user's password, `FILE` with one line")
	cmd.Flags().Int32Var(&iterations, "iterations", 4096, "of the key derivation, 4096 to 16384")
	return cmd
}

func (c *cli) alterUser(ctx context.Context, done, user string, del []kadm.DeleteSCRAM, set []kadm.UpsertSCRAM) error {
	return c.withAdmin(ctx, func(ctx context.Context, admin *kadm.Client) error {
		results, err := admin.AlterUserSCRAMs(ctx, del, set)
		if err != nil {
			return explain("user "+user, err, "")
		}
		for _, r := range results.Sorted() {
			if r.Err != nil {
				return explain("user "+user, r.Err, r.ErrMessage)
			}
		}
		fmt.Fprintf(c.out, "%s user %s\n", done, user)
		return nil
	})
}

// userRow is one user of `user list --json`.
type userRow struct {
	User       string   `json:"user"`
	Mechanisms []string `json:"mechanisms"`
}

func (c *cli) userList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List users; those in the nodes' files are not among them",
		Example: "  entrepot user list",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				users, err := admin.DescribeUserSCRAMs(ctx)
				if err != nil {
					return explain("list users", err, "")
				}
				rows := []userRow{}
				for _, u := range users.Sorted() {
					row := userRow{User: u.User, Mechanisms: []string{}}
					for _, i := range u.CredInfos {
						row.Mechanisms = append(row.Mechanisms, i.Mechanism.String())
					}
					slices.Sort(row.Mechanisms)
					rows = append(rows, row)
				}
				return c.print(rows, func(w io.Writer) {
					t := newTable("no users", "USER", "MECHANISMS")
					for _, r := range rows {
						t.row(r.User, strings.Join(r.Mechanisms, " "))
					}
					t.write(w)
				})
			})
		},
	}
}

func (c *cli) userDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a user; his sessions end when they are to be renewed",
		Example: "  entrepot user delete alice",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var del []kadm.DeleteSCRAM
			err := c.withAdmin(cmd.Context(), func(ctx context.Context, admin *kadm.Client) error {
				users, err := admin.DescribeUserSCRAMs(ctx, args[0])
				if err != nil {
					return explain("user "+args[0], err, "")
				}
				u := users[args[0]]
				if errors.Is(u.Err, kerr.ResourceNotFound) {
					return fmt.Errorf("there is no user %s; `entrepot user list` shows who is there", args[0])
				}
				for _, i := range u.CredInfos {
					del = append(del, kadm.DeleteSCRAM{User: args[0], Mechanism: i.Mechanism})
				}
				return u.Err
			})
			if err != nil {
				return err
			}
			return c.alterUser(cmd.Context(), "deleted", args[0], del, nil)
		},
	}
}
