package postgres

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxName is the longest name in bytes that PostgreSQL keeps; it cuts longer ones.
const maxName = 63

func checkName(v any) error {
	switch name := v.(string); {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("%q is longer than the %d bytes of a PostgreSQL name", name, maxName)
	case strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return fmt.Errorf("%q is not a PostgreSQL name", name)
	}
	return nil
}

func checkTable(v any) error {
	schema, name, two := strings.Cut(v.(string), ".")
	if !two {
		return checkName(schema)
	}
	if strings.Contains(name, ".") {
		return fmt.Errorf("%q has more than one dot, want table or schema.table", v)
	}
	return errors.Join(checkName(schema), checkName(name))
}

func checkKey(v any) error {
	seen := map[string]bool{}
	for _, name := range v.([]string) {
		if err := checkName(name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
	}
	return nil
}

func checkType(any) error { return nil }
