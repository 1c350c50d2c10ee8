package files

import (
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
)

func TestTemplate(t *testing.T) {
	m := connectors.Message{
		Partition: tp, Timestamp: 1431857103000, Key: []byte("k1"),
		Value: []byte(`{"at":"2015-05-17T23:30:00-02:00","s":"a/b=c %","n":5,"null":null,"o":{"x":"deep"},"up":"..","hidden":"_tmp","empty":"","b":true}`),
	}
	for text, want := range map[string]string{
		"":                                "",
		"dt={date(ts)}/hr={hour(ts)}":     "dt=2015-05-17/hr=10",
		"y={year(ts)}/m={month(ts)}":      "y=2015/m=05",
		"d={day(value.at)}":               "d=18",
		"hr={ hour( value.at ) }":         "hr=01",
		"t={topic}/p={partition}/k={key}": "t=clicks/p=3/k=k1",
		"s={value.s}":                     "s=a%2Fb%3Dc %25",
		"n={value.n}/b={value.b}":         "n=5/b=true",
		"x={value.o.x}":                   "x=deep",
		"x=v{value.n}-{partition}":        "x=v5-3",
		"x={value.null}":                  "x=" + hiveNull,
		"x={value.missing}/y={value.o.y}": "x=" + hiveNull + "/y=" + hiveNull,
		"x={value.empty}":                 "x=" + hiveNull,
		"x={value.up}":                    "x=..",
		"{value.up}/{value.hidden}":       "%2E./%5Ftmp",
		"x=fixed":                         "x=fixed",
		"by-topic/{topic}":                "by-topic/clicks",
	} {
		tmpl, err := parseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for range 2 { // the second may come from what was kept
			if got, err := tmpl.folder(&m); err != nil || got != want {
				t.Errorf("%s: %q %v, want %q", text, got, err, want)
			}
		}
	}
}

func TestTemplateWithoutTime(t *testing.T) {
	tmpl, err := parseTemplate("dt={date(ts)}/hr={hour(ts)}")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]string{
		connectors.NoTimestamp: "dt=" + hiveNull + "/hr=" + hiveNull,
		0:                      "dt=1970-01-01/hr=00",
		-3600_000:              "dt=1969-12-31/hr=23",
		1431856800000 - 1:      "dt=2015-05-17/hr=09",
		1431856800000:          "dt=2015-05-17/hr=10",
	} {
		if got, err := tmpl.folder(&connectors.Message{Timestamp: at}); err != nil || got != want {
			t.Errorf("%d: %q %v, want %q", at, got, err, want)
		}
	}
	if _, err := tmpl.folder(&connectors.Message{Timestamp: 1 << 60}); connectors.ClassOf(err) != connectors.ClassPoison {
		t.Errorf("a year of more than four digits: %v", err)
	}
}

func TestTemplatePoison(t *testing.T) {
	for text, value := range map[string]string{
		"dt={date(value.a)}": `{"a":5}`, "dt={hour(value.a)}": `{"a":"yesterday"}`, "a={value.a}": `{"a":{"b":1}}`, "b={value.a}": `{"a":[1]}`,
		"c={value.a}": `{"a":`, "d={value.a}": `{"a":"` + strings.Repeat("x", 300) + `"}`, "k={key}": `{}`,
	} {
		tmpl, err := parseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.folder(&connectors.Message{Value: []byte(value), Key: []byte("\xff")}); connectors.ClassOf(err) != connectors.ClassPoison {
			t.Errorf("%s of %.40s: %q, %v", text, value, got, err)
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"/": "empty folder name", "dt={date(ts)}/": "empty folder name", "dt={date(ts)}//hr={hour(ts)}": "empty folder name",
		"dt={date(ts)": "character 4: the { is not closed", "dt=date(ts)}": "character 12: a } without a {",
		"dt={}": "character 4: {}: want topic", "dt={now()}": "want date(ts)", "dt={date(ts, 1)}": "want topic", "dt={value}": "want topic",
		"dt={hour(topic)}": "want topic", "{ts}": "{ts}: want a function of it", "dt={ts.x}": "want topic", "dt={minute(ts)}": "want date(ts)",
		"../dt={date(ts)}": `folder ".." begins with "."`, "_x={topic}": `begins with "_"`, "a/_schema": `begins with "_"`, "x\\y": "no folder should have",
		"{value..a}": "want topic", "{value.}": "want topic", "{date(date(ts))}": "want topic",
	} {
		if _, err := parseTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzTemplate: no template and no value leads out of the table's folder, or
// into one that is hidden.
func FuzzTemplate(f *testing.F) {
	f.Add("dt={date(ts)}/hr={hour(ts)}", `{"a":1}`, int64(0))
	f.Add("x=v{value.a.b}", `{"a":{"b":"../../x"}}`, int64(-1))
	f.Add("{value.a}{value.b}/c", `{"a":".","b":"."}`, int64(1431857103000))
	f.Fuzz(func(t *testing.T, text, value string, ts int64) {
		tmpl, err := parseTemplate(text)
		if err != nil {
			return
		}
		folder, err := tmpl.folder(&connectors.Message{Partition: tp, Timestamp: ts, Value: []byte(value)})
		if err != nil || text == "" {
			return
		}
		if n := strings.Count(text, "/"); strings.Count(folder, "/") != n {
			t.Errorf("%q of %q gives %q: another number of folders", text, value, folder)
		}
		for s := range strings.SplitSeq(folder, "/") {
			if s == "" || s[0] == '.' || s[0] == '_' && !strings.HasPrefix(s, hiveNull) || strings.ContainsRune(s, 0) {
				t.Errorf("%q of %q gives the folder %q", text, value, folder)
			}
		}
	})
}
