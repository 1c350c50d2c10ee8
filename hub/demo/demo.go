// Package demo is the main job on one machine with nothing installed: two
// sites, a web access log read at the one, mirrored to the other and loaded
// there into hourly Parquet files, with every step counted from outside and
// compared.
//
// Goroutines: one for each of the two hubs; Run ends both and waits for them.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/entrepot-hub/entrepot/connectors/strict"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/stream"
)

// What the jobs in configs/demo are called.
const (
	topic       = "clicks"
	partitions  = 6
	sourceJob   = "access-log"
	sinkJob     = "clicks-lake"
	deadLetters = "access-log.dlq"
)

// patience is how long nothing may move before the demo gives up.
const patience = time.Minute

// Options of one demonstration.
type Options struct {
	Input string // an access log; empty: a small one is generated
	Dir   string // for both sites and the lake
	Exit  bool   // stop as soon as the steps are compared

	EastJobs, WestJobs []byte // the jobs files of the sites
	Open               func(context.Context, Site) (Node, error)
}

// Site is one of the two, of one node, as it is to be opened.
type Site struct {
	Name, DataDir                   string
	Kafka, Admin, Registry, Connect string            // where it listens, host:port
	Join                            []string          // the gossip of the other one
	JobsText                        map[string][]byte // its jobs files, by name
	References                      strict.Options
}

// Node is a hub that was opened.
type Node interface {
	Run(ctx context.Context) error
	Kafka() string // addresses, host:port
	Admin() string
	WAN() string
	Jobs() []stream.JobStatus
	Offsets(topic string, partition int32) record.Offsets
	Has(topic string) bool
}

// ErrDisagree means that the steps were compared and do not agree.
var ErrDisagree = errors.New("the steps do not agree")

// Run shows the demonstration and writes its progress and report to out. Kept
// in the same folder, a second run goes on where the first was.
func Run(ctx context.Context, opts Options, out io.Writer) error {
	input, err := prepare(&opts, out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &sites{opts: opts, lake: filepath.Join(opts.Dir, "lake", topic)}
	if err := s.start(ctx, input); err != nil {
		return errors.Join(err, s.stop(cancel))
	}
	_, _ = fmt.Fprintf(out, "Site east: Kafka %s, console http://%s\nSite west: Kafka %s, console http://%s\n",
		s.east.Kafka(), s.east.Admin(), s.west.Kafka(), s.west.Admin())
	report, err := s.follow(ctx, out)
	if err == nil {
		report.write(out, input)
		if len(report.Disagreements()) > 0 {
			err = ErrDisagree
		}
	}
	if err == nil && !opts.Exit {
		s.invite(out)
		err = s.wait(ctx)
	}
	return errors.Join(err, s.stop(cancel))
}

// prepare makes the folder absolute and finds or makes the input.
func prepare(opts *Options, out io.Writer) (input string, err error) {
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return "", err
	}
	if opts.Input != "" {
		return filepath.Abs(opts.Input)
	}
	input = filepath.Join(opts.Dir, "generated-access.log")
	if _, err := os.Stat(input); err == nil {
		_, _ = fmt.Fprintf(out, "No --input: using the GENERATED log of an earlier run, %s.\n", input)
		return input, nil
	}
	_, _ = fmt.Fprintf(out, "No --input: using a small GENERATED log of %d lines, %s.\n", generatedLines, input)
	return input, generate(input)
}

// sites are the two hubs of the demonstration.
type sites struct {
	opts       Options
	lake       string
	east, west Node
	ended      chan error // one for each hub that runs
	running    int
}

func (s *sites) start(ctx context.Context, input string) error {
	s.ended = make(chan error, 2)
	env := map[string]string{"ENTREPOT_DEMO_INPUT": input, "ENTREPOT_DEMO_LAKE": s.lake}
	var err error
	if s.east, err = s.open(ctx, "east", 0, nil, s.opts.EastJobs, env); err != nil {
		return err
	}
	s.west, err = s.open(ctx, "west", 100, []string{s.east.WAN()}, s.opts.WestJobs, env)
	return err
}

// open starts one site. Its ports are the product's plus shift where they are
// free, any others where not.
func (s *sites) open(ctx context.Context, site string, shift int, join []string, jobs []byte, env map[string]string) (Node, error) {
	h, err := s.opts.Open(ctx, Site{
		Name: site, DataDir: filepath.Join(s.opts.Dir, site), Join: join,
		Kafka: freeAddr(9092 + shift), Admin: freeAddr(8080 + shift), Registry: freeAddr(8081 + shift), Connect: freeAddr(8083 + shift),
		References: strict.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }},
		JobsText:   map[string][]byte{"configs/demo/" + site + ".yaml": jobs},
	})
	if err != nil {
		return nil, fmt.Errorf("site %s: %w", site, err)
	}
	s.running++
	go func() { s.ended <- h.Run(ctx) }()
	return h, nil
}

// freeAddr is the port on the loopback interface, or any other if it is taken.
func freeAddr(port int) string {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close()
	return addr
}

// stop ends both hubs and waits for them.
func (s *sites) stop(cancel func()) error {
	cancel()
	var all error
	for ; s.running > 0; s.running-- {
		if err := <-s.ended; err != nil && !errors.Is(err, context.Canceled) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// wait returns when ctx ends, or when a hub ends by itself.
func (s *sites) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.ended:
		s.running--
		return err
	}
}

func (s *sites) invite(out io.Writer) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\nBoth sites stay up until Ctrl-C. Try them with any Kafka client:\n")
	fmt.Fprintf(&b, "  kcat -b %s -t %s -C -o beginning -e -q | head -3          # read the mirror at west\n", s.west.Kafka(), topic)
	fmt.Fprintf(&b, "  echo 'no' | kcat -b %s -t %s -P                           # refused: a mirror is read-only\n", s.west.Kafka(), topic)
	fmt.Fprintf(&b, "  entrepot link status --admin http://%s                    # how far the mirror is\n", s.west.Admin())
	_, _ = out.Write(b.Bytes())
}
