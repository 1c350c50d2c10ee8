package connect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

func listPlugins(r *request) (any, error) {
	type plugin struct {
		Class   string `json:"class"`
		Type    string `json:"type"`
		Version string `json:"version"`
	}
	all := []plugin{}
	for _, p := range Plugins(r.api.cfg.Registry) {
		all = append(all, plugin{p.Class, p.Kind, r.api.cfg.Version})
	}
	return all, nil
}

// definition is one key as Kafka Connect describes it.
type definition struct {
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Required      bool     `json:"required"`
	Default       *string  `json:"default_value"`
	Importance    string   `json:"importance"`
	Documentation string   `json:"documentation"`
	Group         string   `json:"group"`
	Order         int      `json:"order_in_group"`
	Width         string   `json:"width"`
	DisplayName   string   `json:"display_name"`
	Dependents    []string `json:"dependents"`
	options       []string
}

// Definitions lists the keys of a connector's configuration, those of nested
// mappings by their path.
func (p Plugin) definitions() []definition {
	all := []definition{
		{Name: keyName, Type: "STRING", Required: true, Importance: "HIGH", Documentation: "The connector's name, of the characters of a topic's."},
		{Name: keyClass, Type: "CLASS", Required: true, Importance: "HIGH", Documentation: "The kind of connector: " + p.Class + ". " + p.Spec.Summary},
		{Name: keyTasks, Type: "INT", Default: new("1"), Importance: "LOW", Documentation: "Another word for tasks, as Kafka Connect has it."},
	}
	if p.Kind == "sink" {
		all = append(all, definition{Name: keyTopic, Type: "STRING", Importance: "LOW", Documentation: "Another word for topic, as Kafka Connect has it; one topic."})
	}
	for i := range all {
		all[i].Group = "Common"
	}
	all = define(all, p.Shape(), "", "Common", true)
	order := map[string]int{}
	for i := range all {
		order[all[i].Group]++
		all[i].Order, all[i].Width, all[i].DisplayName, all[i].Dependents = order[all[i].Group], "MEDIUM", all[i].Name, []string{}
	}
	return all
}

func define(all []definition, fields []connectors.Field, prefix, group string, required bool) []definition {
	for _, f := range fields {
		name := prefix + f.Name
		if f.Kind == connectors.KindObject {
			inner := group
			if prefix == "" {
				inner = strings.ToUpper(f.Name[:1]) + f.Name[1:]
			}
			all = define(all, f.Fields, name+".", inner, required && f.Required)
			continue
		}
		d := definition{
			Name: name, Type: typeOf(f.Kind), Required: f.Required && required, Importance: "MEDIUM", Documentation: f.Description, Group: group, options: f.Options,
		}
		if d.Required {
			d.Importance = "HIGH"
		}
		if f.Default != nil {
			d.Default = new(textOf(f.Default))
		}
		all = append(all, d)
	}
	return all
}

// typeOf is the nearest of Kafka's types of settings.
func typeOf(k connectors.Kind) string {
	switch k {
	case connectors.KindInt:
		return "LONG"
	case connectors.KindFloat:
		return "DOUBLE"
	case connectors.KindBool:
		return "BOOLEAN"
	case connectors.KindSecret:
		return "PASSWORD"
	case connectors.KindStrings:
		return "LIST"
	}
	return "STRING"
}

func textOf(v any) string {
	if list, ok := v.([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v)
}

func getPluginConfig(r *request) (any, error) {
	p, err := FindPlugin(r.api.cfg.Registry, r.PathValue("class"))
	if err != nil {
		return nil, fail(http.StatusNotFound, "Unknown plugin %s.", short(r.PathValue("class")))
	}
	return p.definitions(), nil
}

// value is what was sent of one key.
type value struct {
	Name        string   `json:"name"`
	Value       *string  `json:"value"`
	Recommended []string `json:"recommended_values"`
	Errors      []string `json:"errors"`
	Visible     bool     `json:"visible"`
}

type definedValue struct {
	Definition definition `json:"definition"`
	Value      value      `json:"value"`
}

func validatePlugin(r *request) (any, error) {
	var config map[string]string
	if err := r.body(&config); err != nil {
		return nil, err
	}
	reg := r.api.cfg.Registry
	asked := r.PathValue("class")
	p, err := FindPlugin(reg, asked)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "%v", err)
	}
	if config[keyClass] == "" {
		return nil, fail(http.StatusBadRequest, "Connector config contains no connector type")
	}
	if given, err := FindPlugin(reg, config[keyClass]); err != nil || given.Class != p.Class {
		return nil, fail(http.StatusBadRequest, "Included connector type %s does not match request type %s", short(config[keyClass]), short(asked))
	}
	name := config[keyName]
	issues := r.api.cfg.Site.Check(r.Context(), name, r.restored(name, config))
	return validated(p, Mask(reg, config), issues), nil
}

// restored has the secrets that a console has only seen hidden.
func (r *request) restored(name string, config map[string]string) map[string]string {
	for _, c := range r.api.cfg.Site.Connectors() {
		if c.Name == name {
			return Restore(r.api.cfg.Registry, config, c.Config)
		}
	}
	return config
}

func validated(p Plugin, config map[string]string, issues []Issue) any {
	out := struct {
		Name    string         `json:"name"`
		Errors  int            `json:"error_count"`
		Groups  []string       `json:"groups"`
		Configs []definedValue `json:"configs"`
	}{Name: p.Class, Configs: []definedValue{}}
	definitions := p.definitions()
	known := func(key string) bool {
		return slices.ContainsFunc(definitions, func(d definition) bool { return d.Name == key })
	}
	for _, i := range issues { // what is of no key that is known is shown at one of its own
		if !known(i.Key) && i.Key != "" {
			definitions = append(definitions, definition{Name: i.Key, Type: "STRING", Importance: "LOW", Group: "Common", Width: "MEDIUM", DisplayName: i.Key, Dependents: []string{}})
		}
	}
	for _, d := range definitions {
		if !slices.Contains(out.Groups, d.Group) {
			out.Groups = append(out.Groups, d.Group)
		}
		v := value{Name: d.Name, Recommended: append([]string{}, d.options...), Errors: []string{}, Visible: true}
		if given, ok := config[d.Name]; ok {
			v.Value = &given
		} else {
			v.Value = d.Default
		}
		for _, i := range issues {
			if i.Key == d.Name || i.Key == "" && d.Name == keyClass {
				v.Errors = append(v.Errors, i.Message)
			}
		}
		if len(v.Errors) > 0 {
			out.Errors++
		}
		out.Configs = append(out.Configs, definedValue{d, v})
	}
	return out
}
