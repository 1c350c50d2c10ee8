package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entrepot-hub/entrepot/connectors"
)

// Lossy mappings, by the names that allow_lossy takes.
const (
	numericToDouble = "numeric_to_double"
	infinityToNull  = "infinity_to_null"
	jsonNullToNull  = "json_null_to_null"
)

var (
	lossy = []string{numericToDouble, infinityToNull, jsonNullToNull}
	metas = []string{"op", "table", "lsn", "tx", "ts_ms"}
)

// mapping is how values become JSON.
type mapping struct {
	numeric    string // string, number or double
	jsonString bool
	jsonNull   bool   // the JSON null may become NULL
	infinity   string // string, null or fail
}

// cdcSettings are the fields of the config in the form the reader needs.
type cdcSettings struct {
	tables            []name
	publication, slot string
	initial, only     bool
	streaming         bool
	envelope          envelope
	truncate          string
	mapping           mapping
	lossy             []string
	heartbeat         time.Duration
	budget            int64
	overBudget        string
}

func cdcSettingsOf(job string, cfg connectors.Config) cdcSettings {
	s := cdcSettings{
		publication: cfg.String("publication"), slot: cfg.String("slot"),
		initial: cfg.String("snapshot") != "never", only: cfg.String("snapshot") == "only", streaming: cfg.Bool("streaming"),
		envelope: envelope{
			debezium: cfg.String("envelope") == "debezium", meta: cfg.Strings("meta"), deletes: cfg.String("deletes"),
			tableInKey: cfg.String("key") == "table_row", schemaHeader: cfg.Bool("schema_header"), job: job,
		},
		truncate:  cfg.String("truncate"),
		mapping:   mappingOf(cfg),
		lossy:     cfg.Strings("allow_lossy"),
		heartbeat: cfg.Duration("heartbeat"), budget: cfg.Size("max_retained_wal"), overBudget: cfg.String("over_budget"),
	}
	for _, t := range cfg.Strings("tables") {
		s.tables = append(s.tables, nameOf(t))
	}
	if s.publication == "" {
		s.publication = defaultName(job)
	}
	if s.slot == "" {
		s.slot = defaultName(job)
	}
	if s.envelope.deletes == "" {
		s.envelope.deletes = "tombstone"
		if s.envelope.debezium {
			s.envelope.deletes = "both"
		}
	}
	return s
}

// defaultName makes a name that slots and publications may have of a job's.
func defaultName(job string) string {
	clean := regexp.MustCompile(`[^a-z0-9_]`).ReplaceAllString(strings.ToLower(job), "_")
	return ("entrepot_" + clean)[:min(maxName, len("entrepot_")+len(clean))]
}

func mappingOf(cfg connectors.Config) mapping {
	return mapping{
		numeric: cfg.String("numeric"), jsonString: cfg.String("json") == "string", infinity: cfg.String("infinity"),
		jsonNull: slices.Contains(cfg.Strings("allow_lossy"), jsonNullToNull),
	}
}

// check refuses a loss that allowed does not name.
func (m mapping) check(allowed []string) []connectors.Finding {
	var all []connectors.Finding
	add := func(field, message, hint string) {
		all = append(all, connectors.Finding{Field: field, Message: message, Hint: hint})
	}
	if m.numeric == "double" && !slices.Contains(allowed, numericToDouble) {
		add("numeric", "a double does not keep all digits of a numeric", "write numeric: string, or add numeric_to_double to allow_lossy")
	}
	if m.infinity == "null" && !slices.Contains(allowed, infinityToNull) {
		add("infinity", "null does not tell an infinite time from none", "write infinity: string, or add infinity_to_null to allow_lossy")
	}
	return all
}

// check finds what the single fields cannot tell.
func (s cdcSettings) check() []connectors.Finding {
	all := s.mapping.check(s.lossy)
	if len(s.tables) > 1 && !s.envelope.tableInKey {
		all = append(all, connectors.Finding{
			Field: "key", Message: "rows of several tables may have the same key", Warning: true,
			Hint: "write key: table_row, or one job for each table",
		})
	}
	return all
}

func checkTables(v any) error {
	all := v.([]string)
	for i, t := range all {
		if err := checkTable(t); err != nil {
			return err
		}
		if nameOf(t).schema == "" {
			return fmt.Errorf("%q has no schema, want schema.table such as public.%s", t, t)
		}
		if slices.Contains(all[:i], t) {
			return fmt.Errorf("%q is there twice", t)
		}
	}
	return nil
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func checkSlot(v any) error {
	if !slotName.MatchString(v.(string)) {
		return fmt.Errorf("%q cannot be a slot, want lower case letters, digits and underscores, at most %d", v, maxName)
	}
	return nil
}

func checkMeta(v any) error  { return oneOf(v.([]string), metas) }
func checkLossy(v any) error { return oneOf(v.([]string), lossy) }

func oneOf(words, choice []string) error {
	for _, w := range words {
		if !slices.Contains(choice, w) {
			return fmt.Errorf("%q is not one of %s", w, strings.Join(choice, ", "))
		}
	}
	return nil
}

var errDSN = errors.New("dsn: it cannot be read, want postgres://user:password@host:5432/database?sslmode=verify-full or host=… user=… dbname=…")

// cdcConnection reads the dsn. Values are to come in one form, whatever the
// server's, the database's or the user's settings are.
func cdcConnection(job string, cfg connectors.Config) (*pgconn.Config, error) {
	dsn, err := cfg.Secret("dsn").Reveal()
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("dsn: %w", err))
	}
	c, err := pgconn.ParseConfig(dsn)
	if err != nil { // it may have the password in it
		return nil, connectors.Fatal(errDSN)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "entrepot " + job
	}
	for k, v := range map[string]string{
		"client_encoding": "UTF8", "TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "bytea_output": "hex",
		"extra_float_digits": "1", "xmlbinary": "base64", "lc_monetary": "C",
		"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "0",
	} {
		c.RuntimeParams[k] = v
	}
	return c, nil
}
