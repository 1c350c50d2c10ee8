package admin

import (
	"bytes"
	_ "embed" // for the page's template
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed console.html
var consoleText string

// console is parsed once; a template that does not parse fails every test.
var console = template.Must(template.New("console").Funcs(template.FuncMap{
	"count":   func(n int64) string { return grouped(n) },
	"bytes":   humanBytes,
	"seconds": humanSeconds,
	"measure": humanMeasure,
	"tone":    tone,
	"pairs":   pairs,
	"join":    strings.Join,
}).Parse(consoleText))

// view is what the page is made of.
type view struct {
	Status   Status
	Uptime   time.Duration
	Sites    []site
	Links    []Link
	Jobs     []Job
	Topics   []Topic // without internal ones
	Internal int
	At       time.Time
}

// site groups the members of the mesh.
type site struct {
	Name    string
	Here    bool
	Members []Member
}

// refreshSeconds is how often the page loads itself again.
const refreshSeconds = "5"

func (s *Server) page() ([]byte, error) {
	now := s.clock()
	v := view{Status: s.status(), Links: s.links(), Jobs: s.jobs(), At: now.UTC()}
	v.Uptime = now.Sub(v.Status.Started)
	v.Sites = sites(s.members(), v.Status.Site)
	for _, t := range v.Status.Topics {
		if t.Internal {
			v.Internal++
		} else {
			v.Topics = append(v.Topics, t)
		}
	}
	var page bytes.Buffer
	if err := console.Execute(&page, v); err != nil {
		return nil, fmt.Errorf("admin: console page: %w", err)
	}
	return page.Bytes(), nil
}

// answerPage writes the page under a policy that lets it load nothing: its
// style is inline and it has no script.
func answerPage(page func() ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r, http.MethodGet) {
			return
		}
		body, err := page()
		if err != nil {
			writeError(w, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Refresh", refreshSeconds)
		_, _ = w.Write(body)
	})
}

// sites groups members by site, this one first. A node that is in both pools
// is shown once, as the pool nearer to us sees it: LAN members come before.
func sites(members []Member, here string) (all []site) {
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b Member) int {
		return strings.Compare(a.Pool, b.Pool) // "lan" < "wan"
	})
	bySite, seen := map[string][]Member{}, map[string]bool{}
	for _, m := range sorted {
		if !seen[m.ID] {
			seen[m.ID] = true
			bySite[m.Site] = append(bySite[m.Site], m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bySite)) {
		group := site{Name: name, Here: name == here, Members: bySite[name]}
		slices.SortFunc(group.Members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
		if group.Here {
			all = slices.Insert(all, 0, group)
		} else {
			all = append(all, group)
		}
	}
	return all
}

// tone chooses a colour for a state word.
func tone(state string) string {
	switch state {
	case "running", "completed", "streaming", "alive", "ok":
		return "good"
	case "failed", "stuck", "full", "offline", "DIVERGED", "SOURCE_RECREATED", "gap", "refused":
		return "bad" // stays so until somebody does something
	case "paused", "stopped", "left":
		return "quiet"
	default:
		return "warn"
	}
}

type pair struct {
	Name  string
	Value int64
}

// pairs orders counters as a record meets them; others follow by name.
func pairs(counters map[string]int64) (all []pair) {
	road := []string{"read", "written", "filtered", "skipped", "dead"}
	for _, name := range road {
		if v, ok := counters[name]; ok {
			all = append(all, pair{name, v})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		if !slices.Contains(road, name) {
			all = append(all, pair{name, counters[name]})
		}
	}
	return all
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// humanBytes writes 1536 as 1.5 KiB.
func humanBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// humanSeconds writes 93 s as 1m33s and drops what is below a second.
func humanSeconds(d time.Duration) string { return d.Round(time.Second).String() }

// humanMeasure groups whole numbers and leaves "unknown" as it is.
func humanMeasure(m Measure) string {
	v, known := m.Value()
	if known && v == float64(int64(v)) {
		return grouped(int64(v))
	}
	return m.String()
}
