package ctl

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) topicReplicas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replicas NAME COUNT",
		Short: "Give every partition of a topic more copies, or fewer",
		Long: `Give every partition of a topic COUNT copies. New ones go to other zones while
there are such, then to the nodes that have least, and are made in the
background; 'entrepot node moves' shows how far they are. Asks the admin API
(--admin). Three copies survive the loss of any node; two do not, since a
majority of two is both.`,
		Example: "  entrepot topic replicas clicks 3 --admin http://127.0.0.1:8080",
		Args:    exactly("NAME", "COUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			count, err := strconv.Atoi(args[1])
			if err != nil || count < 1 {
				return usagef("COUNT is %q: want 1 or more", args[1])
			}
			var plan []admin.Wish
			path := "/v1/site/topics/" + url.PathEscape(args[0]) + "/replicas?count=" + strconv.Itoa(count)
			if err := c.call(cmd.Context(), http.MethodPost, path, &plan); err != nil {
				return err
			}
			return c.print(plan, func(w io.Writer) {
				writePlan(w, fmt.Sprintf("%s has %s of each partition", args[0], plural(count, "replica")), plan)
			})
		},
	}
	c.adminFlag(cmd.Flags().StringVar) // hidden at the other verbs, which do not ask it
	return cmd
}
