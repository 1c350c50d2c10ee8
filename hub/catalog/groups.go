package catalog

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/entrepot-hub/entrepot/record"
)

// AlterGroupConfig sets and removes settings of a group, all or none. The group
// need not exist. Result: nil.
type AlterGroupConfig struct {
	Group  string
	Set    map[string]string `json:",omitempty"`
	Remove []string          `json:",omitempty"` // back to the default
}

func (AlterGroupConfig) kind() byte { return kindAlterGroupConfig }

// The settings of groups, by Kafka's names.
const (
	GroupInterval      = "consumer.heartbeat.interval.ms"
	GroupSession       = "consumer.session.timeout.ms"
	GroupShareReset    = "share.auto.offset.reset"
	GroupShareLock     = "share.record.lock.duration.ms"
	GroupShareSession  = "share.session.timeout.ms"
	GroupShareInterval = "share.heartbeat.interval.ms"
)

// GroupKey is a setting that groups can have.
type GroupKey struct {
	Name, Default, Doc string
	Type               Type
	min, max           int64 // of a number, as Kafka bounds it; a node may bound it further
}

// GroupKeys are all of them.
func GroupKeys() []GroupKey {
	return []GroupKey{
		{Name: GroupInterval, Default: "5000", Type: TypeInt, Doc: "How often members of the consumer protocol are heard.", min: 1, max: math.MaxInt32},
		{Name: GroupSession, Default: "45000", Type: TypeInt, Doc: "A member of the consumer protocol that is not heard for as long is out.", min: 1, max: math.MaxInt32},
		{Name: GroupShareReset, Default: "latest", Type: TypeString, Doc: "Where a share group begins in a partition: latest or earliest."},
		{Name: GroupShareInterval, Default: "5000", Type: TypeInt, Doc: "How often members of the share group are heard.", min: 1000, max: 15_000},
		{Name: GroupShareLock, Default: "30000", Type: TypeInt, Doc: "How long a member holds records that it does not acknowledge.", min: 1000, max: 3_600_000},
		{Name: GroupShareSession, Default: "45000", Type: TypeInt, Doc: "A member of the share group that is not heard for as long is out.", min: 1000, max: 600_000},
	}
}

func (k GroupKey) check(v string) error {
	if k.Type == TypeString {
		if v != "latest" && v != "earliest" {
			return fmt.Errorf("%w: %s is %q, want latest or earliest", record.ErrInvalidConfig, k.Name, v)
		}
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < k.min || n > k.max {
		return fmt.Errorf("%w: %s is %q, want %d to %d", record.ErrInvalidConfig, k.Name, v, k.min, k.max)
	}
	return nil
}

func checkGroupConfig(config map[string]string) error {
	keys := GroupKeys()
	for _, name := range slices.Sorted(maps.Keys(config)) {
		i := slices.IndexFunc(keys, func(k GroupKey) bool { return k.Name == name })
		if i < 0 {
			return fmt.Errorf("%w: groups have no setting %q", record.ErrInvalidConfig, name)
		}
		if err := keys[i].check(config[name]); err != nil {
			return err
		}
	}
	return nil
}

// GroupConfig is what was set of a group; the caller must not change it.
func (s *State) GroupConfig(group string) map[string]string { return s.groups[group] }

func (s *State) alterGroupConfig(c AlterGroupConfig) (*State, any, error) {
	if err := checkName("group", c.Group); err != nil {
		return nil, nil, err
	}
	config := map[string]string{}
	maps.Copy(config, s.groups[c.Group])
	for _, k := range c.Remove {
		delete(config, k)
	}
	maps.Copy(config, c.Set)
	if err := checkGroupConfig(config); err != nil {
		return nil, nil, err
	}
	next := *s
	next.groups = maps.Clone(s.groups)
	if next.groups == nil {
		next.groups = map[string]map[string]string{}
	}
	next.groups[c.Group] = config
	if len(config) == 0 {
		delete(next.groups, c.Group)
	}
	return &next, nil, nil
}

// checkGroups verifies what the rest of the package takes for granted.
func (s *State) checkGroups() error {
	for _, name := range slices.Sorted(maps.Keys(s.groups)) {
		if err := checkName("group", name); err != nil {
			return err
		}
		if len(s.groups[name]) == 0 {
			return fmt.Errorf("group %q has no settings", name)
		}
		if err := checkGroupConfig(s.groups[name]); err != nil {
			return err
		}
	}
	return nil
}
