package connect

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
)

func getTasks(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	type task struct {
		ID     taskID            `json:"id"`
		Config map[string]string `json:"config"`
	}
	all := []task{}
	for i, t := range c.live() {
		config := maps.Clone(r.api.shown(c.Name, c.Config))
		config["task.class"], config["task.part"] = c.Config[keyClass], t.Name
		all = append(all, task{taskID{c.Name, i}, config})
	}
	return all, nil
}

// task is the number in the path.
func (r *request) task() (int, error) {
	n, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || n < 0 {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return n, nil
}

func getTaskStatus(r *request) (any, error) {
	n, err := r.task()
	if err != nil {
		return nil, err
	}
	c, err := r.find()
	if all := r.api.status(c).Tasks; err == nil && n < len(all) {
		return all[n], nil
	}
	return nil, fail(http.StatusNotFound, "No status found for task %s-%d", short(r.PathValue("name")), n)
}

// restartTask begins a new run of the whole connector: its tasks go on where
// they were, and what is done is not done again.
func restartTask(r *request) (any, error) {
	n, err := r.task()
	if err != nil {
		return nil, err
	}
	c, err := r.find()
	if err != nil {
		return nil, fail(http.StatusNotFound, "Unknown connector: %s", short(r.PathValue("name")))
	}
	// Right after a restart its tasks are not known yet; they are asked for
	// nothing that the connector would not do.
	starting := len(c.live()) == 0 && (c.State == Unassigned || c.State == Restarting)
	if n >= len(c.live()) && !starting {
		return nil, fail(http.StatusNotFound, "Unknown task: %s-%d", short(c.Name), n)
	}
	return reply{status: http.StatusNoContent}, r.api.cfg.Site.Act(r.Context(), c.Name, Restart)
}

// offset is one entry of an offsets answer or request.
type offset struct {
	Partition map[string]any `json:"partition"`
	Offset    map[string]any `json:"offset"`
}

// The keys of a sink's are Kafka Connect's; a source's position is opaque.
const (
	keyOffsetTopic     = "kafka_topic"
	keyOffsetPartition = "kafka_partition"
	keyOffsetOffset    = "kafka_offset"
	keySplit           = "split"
	keyPosition        = "position" // base64
	keyWhere           = "where"    // the position for people; not read
)

func getOffsets(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	all, err := r.api.cfg.Site.Offsets(r.Context(), c.Name)
	if err != nil {
		return nil, err
	}
	out := []offset{}
	for _, o := range all {
		if c.Kind == "sink" {
			out = append(out, offset{map[string]any{keyOffsetTopic: o.Topic, keyOffsetPartition: o.Partition}, map[string]any{keyOffsetOffset: o.Offset}})
			continue
		}
		one := offset{map[string]any{keySplit: o.Split}, map[string]any{keyPosition: base64.StdEncoding.EncodeToString(o.Position)}}
		if o.Where != "" {
			one.Offset[keyWhere] = o.Where
		}
		out = append(out, one)
	}
	return map[string][]offset{"offsets": out}, nil
}

func patchOffsets(r *request) (any, error) {
	var body struct {
		Offsets []json.RawMessage `json:"offsets"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	if len(body.Offsets) == 0 {
		return nil, fail(http.StatusBadRequest, "Partitions / offsets need to be provided for an alter offsets request")
	}
	if err := c.idle(); err != nil {
		return nil, err
	}
	var to []Offset
	for i, raw := range body.Offsets {
		o, err := readOffset(c.Kind, raw)
		if err != nil {
			return nil, fail(http.StatusBadRequest, "offsets[%d]: %v", i, err)
		}
		to = append(to, o)
	}
	if err := r.api.cfg.Site.SetOffsets(r.Context(), c.Name, to); err != nil {
		return nil, err
	}
	return map[string]string{"message": "The offsets for this connector have been altered successfully"}, nil
}

func readOffset(kind string, raw json.RawMessage) (Offset, error) {
	if kind == "sink" {
		var o struct {
			Partition struct {
				Topic     string `json:"kafka_topic"`
				Partition *int32 `json:"kafka_partition"`
			} `json:"partition"`
			Offset struct {
				Offset *int64 `json:"kafka_offset"`
			} `json:"offset"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return Offset{}, err
		}
		if o.Partition.Topic == "" || o.Partition.Partition == nil || o.Offset.Offset == nil {
			return Offset{}, errors.New(`want {"partition": {"kafka_topic": "t", "kafka_partition": 0}, "offset": {"kafka_offset": 42}}; to begin anew, DELETE the offsets`)
		}
		return Offset{Topic: o.Partition.Topic, Partition: *o.Partition.Partition, Offset: *o.Offset.Offset}, nil
	}
	var o struct {
		Partition struct {
			Split string `json:"split"`
		} `json:"partition"`
		Offset struct {
			Position string `json:"position"`
		} `json:"offset"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return Offset{}, err
	}
	position, err := base64.StdEncoding.DecodeString(o.Offset.Position)
	if err != nil || o.Partition.Split == "" || len(position) == 0 {
		return Offset{}, errors.New(`want {"partition": {"split": "s"}, "offset": {"position": "BASE64"}}, the position as GET gives it`)
	}
	return Offset{Split: o.Partition.Split, Position: position}, nil
}

// idle fails unless the connector is stopped.
func (c Connector) idle() error {
	if c.State == Stopped {
		return nil
	}
	return fmt.Errorf("%w: Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the specified connector by issuing a 'PUT' request to the '/connectors/%s/stop' endpoint", ErrNotStopped, c.Name)
}

func deleteOffsets(r *request) (any, error) {
	c, err := r.find()
	if err != nil {
		return nil, err
	}
	if err := c.idle(); err != nil {
		return nil, err
	}
	if err := r.api.cfg.Site.ResetOffsets(r.Context(), c.Name); err != nil {
		return nil, err
	}
	return map[string]string{"message": "The offsets for this connector have been reset successfully"}, nil
}
