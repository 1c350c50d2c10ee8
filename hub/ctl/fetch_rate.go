package ctl

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/admin"
)

func (c *cli) nodeFetchRate() *cobra.Command {
	const path = "/v1/fetch-rate"
	return &cobra.Command{
		Use:   "fetch-rate [RATE]",
		Short: "Show or change how fast a node fetches logs that it lacks",
		Long: `Show how many bytes a second a node fetches of logs that it lacks, all together, or
change it at once, also for what is on its way: less where clients wait too long
meanwhile, more where they can. 0 is no bound. After its next start the node goes by
cluster.fetch_rate of its file again. It is the node of --admin whose rate this is: the
one that is being filled.`,
		Example: "  entrepot node fetch-rate --admin http://127.0.0.1:8080\n  entrepot node fetch-rate 16MiB --admin http://127.0.0.1:8080",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one RATE at most, got %d; for example:\n%s", cmd.CommandPath(), len(args), cmd.Example)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var rate admin.FetchRate
			var err error
			if len(args) == 0 {
				err = c.get(cmd.Context(), path, &rate)
			} else {
				to, bad := strict.ParseSize(args[0])
				if bad != nil {
					return usagef("RATE: %w", bad)
				}
				err = c.send(cmd.Context(), http.MethodPut, path, admin.FetchRate{BytesPerSecond: to}, &rate)
			}
			if err != nil {
				return err
			}
			return c.print(rate, func(w io.Writer) {
				if rate.BytesPerSecond == 0 {
					fmt.Fprintln(w, "no bound")
					return
				}
				fmt.Fprintf(w, "%s a second\n", size(rate.BytesPerSecond))
			})
		},
	}
}
