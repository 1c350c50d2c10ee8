package admin

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns what the sources say at scrape time into metrics. It
// describes nothing beforehand (an "unchecked" collector), because what exists
// depends on the topics, links and jobs of the moment.
type collector struct {
	src   Sources
	clock func() time.Time
}

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	var samples []Sample
	if c.src.Node != nil {
		samples = append(samples, nodeSamples(c.src.Node.Status(), c.clock())...)
	}
	if c.src.Mesh != nil {
		samples = append(samples, meshSamples(c.src.Mesh.Members())...)
	}
	if c.src.Links != nil {
		samples = append(samples, linkSamples(c.src.Links.Links())...)
	}
	if c.src.Jobs != nil {
		samples = append(samples, jobSamples(c.src.Jobs.Jobs())...)
	}
	for _, s := range c.src.Samples {
		samples = append(samples, s.Samples()...)
	}
	for _, s := range samples {
		out <- s.metric()
	}
}

// metric is the sample as Prometheus wants it. A name or label that it refuses
// becomes an invalid metric, which fails the scrape with the reason instead of
// the process.
func (s Sample) metric() prometheus.Metric {
	names := slices.Sorted(maps.Keys(s.Labels))
	values := make([]string, len(names))
	for i, n := range names {
		values[i] = s.Labels[n]
	}
	kind := prometheus.GaugeValue
	if s.Counter {
		kind = prometheus.CounterValue
	}
	desc := prometheus.NewDesc("entrepot_"+s.Name, s.Help, names, nil)
	m, err := prometheus.NewConstMetric(desc, kind, s.Value, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}

type labels = map[string]string

func nodeSamples(st Status, now time.Time) []Sample {
	samples := []Sample{
		{Name: "node_info", Help: "1, with the node's name, site and version.", Labels: labels{"node": st.Node, "site": st.Site, "version": st.Version}, Value: 1},
		{Name: "node_ready", Help: "1 when the node serves Kafka clients.", Value: truth(st.Ready)},
		{Name: "node_uptime_seconds", Help: "Seconds since the node started.", Value: now.Sub(st.Started).Seconds()},
		{Name: "disk_free_bytes", Help: "Bytes free on the volume of the data directory.", Value: float64(st.Disk.FreeBytes)},
	}
	for _, state := range []string{"ok", "low", "full", "offline"} {
		samples = append(samples, Sample{Name: "disk_state", Help: "1 for the state that the volume is in.", Labels: labels{"state": state}, Value: truth(st.Disk.State == state)})
	}
	for _, t := range st.Topics {
		of := labels{"topic": t.Name}
		damaged := 0
		for _, p := range t.Partitions {
			damaged += int(truth(p.Damage != ""))
		}
		samples = append(samples,
			Sample{Name: "topic_records", Help: "Offsets between log start and high watermark.", Labels: of, Value: float64(t.Records())},
			Sample{Name: "topic_bytes", Help: "Bytes on this node's disk.", Labels: of, Value: float64(t.Bytes())},
			Sample{Name: "topic_quarantined_partitions", Help: "Partitions not served because their log is damaged.", Labels: of, Value: float64(damaged)})
		samples = append(samples, compactionSamples(t, of)...)
	}
	return append(samples, peerSamples(st.Peers)...)
}

// compactionSamples sums what compaction has done to a topic's partitions.
func compactionSamples(t Topic, of labels) []Sample {
	var sum Compaction
	compacted := false
	for _, p := range t.Partitions {
		if c := p.Compaction; c != nil {
			compacted = true
			sum.DirtyBytes, sum.Passes, sum.Errors = sum.DirtyBytes+c.DirtyBytes, sum.Passes+c.Passes, sum.Errors+c.Errors
			sum.BeforeBytes, sum.AfterBytes = sum.BeforeBytes+c.BeforeBytes, sum.AfterBytes+c.AfterBytes
			if c.Last.After(sum.Last) {
				sum.Last = c.Last
			}
		}
	}
	if !compacted {
		return nil
	}
	last := 0.0
	if !sum.Last.IsZero() {
		last = float64(sum.Last.UnixMilli()) / 1000
	}
	return []Sample{
		{Name: "compaction_dirty_bytes", Help: "Bytes that may be compacted and are not yet.", Labels: of, Value: float64(sum.DirtyBytes)},
		{Name: "compaction_passes_total", Help: "Compactions that came to their end.", Counter: true, Labels: of, Value: float64(sum.Passes)},
		{Name: "compaction_errors_total", Help: "Compactions that failed.", Counter: true, Labels: of, Value: float64(sum.Errors)},
		{Name: "compaction_before_bytes_total", Help: "Bytes of segments that were compacted.", Counter: true, Labels: of, Value: float64(sum.BeforeBytes)},
		{Name: "compaction_after_bytes_total", Help: "Bytes that became of them.", Counter: true, Labels: of, Value: float64(sum.AfterBytes)},
		{Name: "compaction_last_seconds", Help: "When the last compaction ended, seconds since 1970; 0: not since the node started.", Labels: of, Value: last},
	}
}

func meshSamples(members []Member) (samples []Sample) {
	for _, m := range members {
		samples = append(samples, Sample{
			Name: "mesh_member_up", Help: "1 when the member is alive.",
			Labels: labels{"node": m.ID, "site": m.Site, "pool": m.Pool}, Value: truth(m.Status == "alive"),
		})
	}
	return samples
}

func linkSamples(links []Link) (samples []Sample) {
	for _, l := range links {
		of := labels{"link": l.Name, "source": l.Source}
		samples = append(samples,
			Sample{Name: "mirror_records_total", Help: "Records copied since the node started.", Counter: true, Labels: of, Value: float64(l.Records)},
			Sample{Name: "mirror_bytes_total", Help: "Bytes copied since the node started.", Counter: true, Labels: of, Value: float64(l.Bytes)},
			Sample{Name: "mirror_lag_records", Help: "Records behind the source; NaN when the source has not been heard.", Labels: of, Value: number(l.LagRecords)},
			Sample{Name: "mirror_lag_seconds", Help: "Seconds behind the source; NaN when the source has not been heard.", Labels: of, Value: number(l.LagSeconds)},
			Sample{Name: "mirror_sample_age_seconds", Help: "Seconds since the source was heard.", Labels: of, Value: number(l.Heard)},
			Sample{Name: "mirror_running", Help: "1 when the link is level with its source, or on the way there.", Labels: of, Value: truth(l.State == "streaming" || l.State == "catching-up")})
	}
	return samples
}

func jobSamples(jobs []Job) (samples []Sample) {
	for _, j := range jobs {
		of := labels{"job": j.Name, "kind": j.Kind, "connector": j.Connector}
		samples = append(samples,
			Sample{Name: "job_running", Help: "1 when the job runs.", Labels: of, Value: truth(j.State == "running")},
			Sample{Name: "job_stuck", Help: "1 when the job has tried for two minutes and longer without progress.", Labels: of, Value: truth(j.State == "stuck")},
			Sample{Name: "job_retrying_seconds", Help: "Seconds for which the job has tried without progress; 0 when it makes some.", Labels: of, Value: j.Retrying.seconds()},
			Sample{Name: "job_lag_records", Help: "Records a sink has yet to load; NaN when not known.", Labels: of, Value: number(j.Lag)})
		for _, name := range slices.Sorted(maps.Keys(j.Counters)) {
			samples = append(samples, Sample{
				Name: "job_records_total", Help: "Records of a job by what became of them.", Counter: true,
				Labels: labels{"job": j.Name, "kind": j.Kind, "connector": j.Connector, "outcome": name}, Value: float64(j.Counters[name]),
			})
		}
	}
	return samples
}

func (r *Retrying) seconds() float64 {
	if r == nil {
		return 0
	}
	return r.Seconds
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// number is a measure for Prometheus, where unknown is NaN: a rule that
// compares it is never satisfied by accident.
func number(m Measure) float64 {
	if v, known := m.Value(); known {
		return v
	}
	return math.NaN()
}
