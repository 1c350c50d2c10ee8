package postgres

import (
	"strconv"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestSuite runs the suite of all connectors against a real server, in both
// modes.
func TestSuite(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"upsert":              {},
		"insert":              {"mode": "insert", "key": nil},
		"columns to be found": {"columns": nil},
	} {
		t.Run(name, func(t *testing.T) {
			conntest.Sink(t, Sink{}, func(t *testing.T) conntest.SinkCase {
				r := newRig(t)
				rows := func(what string) string {
					if r.text(`SELECT to_regclass('rows')`) == "" {
						return ""
					}
					return r.text(`SELECT coalesce(string_agg(` + what + `, ' ' ORDER BY id), '') FROM rows`)
				}
				return conntest.SinkCase{
					Config:    r.config(with(upsertFields(), more)),
					Remembers: true,
					State:     func(*testing.T) string { return rows(`id || '=' || name`) },
					Rows: func(t *testing.T) (ids []int64) {
						for _, word := range strings.Fields(rows(`id::text`)) {
							id, err := strconv.ParseInt(word, 10, 64)
							if err != nil {
								t.Fatal(err)
							}
							ids = append(ids, id)
						}
						return ids
					},
				}
			})
		})
	}
}
