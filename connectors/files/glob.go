package files

import (
	"fmt"
	"path"
	"strings"
)

// glob is a pattern of paths: names with * and ? and […], as path.Match has
// them, and ** for any number of folders.
type glob []string

func parseGlob(text string) (glob, error) {
	g := glob(strings.Split(text, "/"))
	for _, part := range g {
		if part == "" {
			return nil, fmt.Errorf("%q has an empty name: no slash at either end, and none twice", text)
		}
		if _, err := path.Match(part, "x"); err != nil || strings.Contains(part, "**") && part != "**" {
			return nil, fmt.Errorf("%q in %q is no pattern: want * ? […] within a name, or ** alone", part, text)
		}
	}
	return g, nil
}

func checkGlob(v any) error {
	_, err := parseGlob(v.(string))
	return err
}

func (g glob) String() string { return strings.Join(g, "/") }

// match reports whether a path fits. ** at the end stands for a name, too.
func (g glob) match(name string) bool { return matchParts(g, strings.Split(name, "/")) }

func matchParts(g glob, name []string) bool {
	for i, part := range g {
		if part == "**" {
			if i == len(g)-1 {
				return len(name) > i
			}
			for skip := i; skip < len(name); skip++ {
				if matchParts(g[i+1:], name[skip:]) {
					return true
				}
			}
			return false
		}
		if i >= len(name) {
			return false
		}
		if ok, _ := path.Match(part, name[i]); !ok { // the pattern was checked
			return false
		}
	}
	return len(name) == len(g)
}
