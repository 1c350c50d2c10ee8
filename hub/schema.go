package hub

import (
	"fmt"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/stream"
)

// Schema is the JSON Schema of config files: $defs has node and jobs, and the
// whole takes a file for one or the other by its keys.
func Schema(registry connectors.Registry) strict.Schema {
	var isNode []strict.Schema
	for _, key := range []string{"node", "listeners", "mesh", "cluster", "security", "jobs", "plugins"} {
		isNode = append(isNode, strict.Schema{"required": []string{key}})
	}
	return strict.Schema{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Entrepot config file",
		"$defs": strict.Schema{
			"node": nodeSchema(),
			"jobs": stream.Schema(registry, topicSettings()),
		},
		"if": strict.Schema{"anyOf": isNode}, "then": strict.Schema{"$ref": "#/$defs/node"}, "else": strict.Schema{"$ref": "#/$defs/jobs"},
	}
}

func topicSettings() strict.Schema {
	all := strict.Schema{}
	for _, k := range catalog.Keys() {
		all[k.Name] = strict.Schema{"type": []string{"string", "number", "boolean"}, "description": k.Doc, "default": k.Default}
	}
	return all
}

// nodeSchema describes a node's file, with the defaults of Default.
func nodeSchema() strict.Schema {
	s := strict.SchemaOf(Default())
	for path, text := range nodeHelp {
		at := s
		for _, key := range strings.Split(path, ".") {
			properties, _ := at["properties"].(strict.Schema)
			next, ok := properties[key].(strict.Schema)
			if !ok {
				panic(fmt.Sprintf("hub: a node's file has no key %s", path))
			}
			at = next
		}
		at["description"] = text
	}
	return s
}

// nodeHelp says what keys of a node's file mean.
var nodeHelp = map[string]string{
	"node":                      "Who the node is and where its data lies.",
	"node.id":                   "Name of the node, unique in the mesh, such as fra-1.",
	"node.site":                 "The datacenter, such as fra.",
	"node.site_id":              "1 to 32767, another one at each site. Default: drawn from the site's name.",
	"node.data_dir":             "Folder for the node's data, on one volume.",
	"node.zone":                 "Rack or availability zone.",
	"listeners":                 "The ports, and how each is secured.",
	"listeners.kafka":           "The port of the Kafka protocol.",
	"listeners.extra":           "More ports of the Kafka protocol by name, each with its own security.",
	"listeners.admin":           "The port of health, metrics, the admin API and the console.",
	"listeners.peer":            "The port for the other nodes of the site, and the certificates by which they know each other.",
	"listeners.registry":        "The port of the schema registry; addr \"off\" runs none.",
	"listeners.connect":         "The port of Kafka Connect's REST API; addr \"off\" runs none.",
	"mesh":                      "The gossip: one pool for the site, one for all sites.",
	"mesh.lan":                  "The pool of the site.",
	"mesh.wan":                  "The pool of all sites.",
	"mesh.key":                  "Encrypts the gossip: base64 of 16, 24 or 32 bytes, by a reference such as ${env:MESH_KEY}.",
	"mesh.profile":              "local for nodes of one machine, which notice each other's end sooner.",
	"cluster":                   "How a site begins.",
	"cluster.bootstrap_expect":  "With how many nodes a new site begins, the same at each of them; 0 to join one that is there.",
	"cluster.fetch_rate":        "How many bytes a second the node fetches of logs that it lacks; 0 for no bound.",
	"scrub":                     "How what is on the disk is read and checked, while the node is not busy.",
	"scrub.rate":                "How many bytes a second are read; 0 for nothing.",
	"scrub.every":               "The time between two passes over everything.",
	"security":                  "Who may come in and do what.",
	"security.authorize":        "ACLs decide what clients may do.",
	"security.super_users":      "They may do everything, as TYPE:NAME.",
	"security.users":            "Users with their passwords, beside those of the site.",
	"security.oauth":            "Whose bearer tokens are taken.",
	"links":                     "How this site's links reach the listeners of other sites.",
	"jobs":                      "Globs of jobs files, relative to this file.",
	"plugins":                   "Programs with connectors of their own, their paths relative to this file.",
	"auto_create_topics":        "A client's question for a topic makes it.",
	"group_delay":               "How long an empty consumer group waits for more members.",
	"group_migration":           "Which consumer groups with members may change their protocol: bidirectional, upgrade, downgrade or disabled.",
	"consumer_groups":           "How members of consumer groups (KIP-848) are heard.",
	"consumer_groups.session":   "A member that is not heard for as long is out.",
	"consumer_groups.heartbeat": "How often a member is heard.",
}
