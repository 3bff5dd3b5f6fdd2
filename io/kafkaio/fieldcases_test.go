// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// The tests of this file read a topic in a pipeline with windows on the whole runner. FC and a number
// name the case in the collection that they come from.

func init() {
	register.Function1x2(byTopic)
	register.Function3x0(told)
	register.Function1x1(seen)
	register.Iter1[string]()
}

// byTopic gives all records one key.
func byTopic(r Record) (string, string) { return r.Topic, fmt.Sprintf("%d:%d", r.Partition, r.Offset) }

// heard is what the pipelines of these tests tell, in this process.
var heard struct {
	windows chan string // Each window that has closed, with its number of records.
	records chan Record // Each record that was read, and is committed.
}

func told(w beam.Window, _ string, next func(*string) bool) {
	n := 0
	for text := ""; next(&text); {
		n++
	}
	iw := w.(window.IntervalWindow)
	heard.windows <- fmt.Sprintf("%s %d", iw.Start.ToTime().UTC().Format("15:04:05"), n)
}

func seen(r Record) Record {
	heard.records <- r
	return r
}

// windowed is a job that reads the topic of a cluster for ever and counts the records of each window.
type windowed struct {
	t       *testing.T
	cluster *kfake.Cluster
	cfg     ReadConfig
	size    time.Duration
	options runner.Options

	job     *runner.Job
	running *runner.Running
}

func newWindowed(t *testing.T, c *kfake.Cluster, size time.Duration) *windowed {
	t.Helper()
	if !beam.Initialized() {
		beam.Init()
	}
	heard.windows, heard.records = make(chan string, 1000), make(chan Record, 100_000)
	cfg := config(c)
	cfg.IdleAfter = time.Millisecond
	return &windowed{t: t, cluster: c, cfg: cfg, size: size, options: runner.Options{
		StateDir: filepath.Join(t.TempDir(), "state"),
		NoFusion: true, // What seen tells has been committed, and the watermark with it.
	}}
}

func (w *windowed) start() {
	w.t.Helper()
	job, err := runner.Open(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	records, _ := Read(s, w.cfg)
	in := beam.WindowInto(s, window.NewFixedWindows(w.size), beam.ParDo(s, seen, records))
	beam.ParDo0(s, told, beam.GroupByKey(s, beam.ParDo(s, byTopic, in)))
	running, err := job.Start(w.t.Context(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.job, w.running = job, running
}

// stop stops the job, which can be started again, and returns how many records were late.
func (w *windowed) stop() (late int64) {
	w.t.Helper()
	w.running.Stop()
	if _, err := w.running.Wait(); !errors.Is(err, runner.ErrStopped) {
		w.t.Fatalf("the job ended with %v, want ErrStopped", err)
	}
	if err := w.job.Close(); err != nil {
		w.t.Fatal(err)
	}
	i, err := runner.Inspect(w.options.StateDir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, stage := range i.Stages {
		late += stage.Late
	}
	return late
}

// counter is a metric of Read, as the job that was stopped has left it.
func (w *windowed) counter(name string) (sum int64) {
	w.t.Helper()
	i, err := runner.Inspect(w.options.StateDir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range i.Metrics {
		if m.Name == name {
			sum += m.Sum
		}
	}
	return sum
}

// reads waits until n more records were read.
func (w *windowed) reads(n int) {
	w.t.Helper()
	for i := range n {
		receive(w.t, heard.records, fmt.Sprintf("record %d of %d", i+1, n))
	}
}

// closes waits for windows.
func (w *windowed) closes(want ...string) {
	w.t.Helper()
	var got []string
	for len(got) < len(want) {
		select {
		case window := <-heard.windows:
			got = append(got, window)
		case <-time.After(time.Minute):
			for _, s := range w.running.Snapshot().Stages {
				w.t.Logf("stage %d %s: watermarks %v, %v; %d in the mailbox, waits for %s", s.ID, s.Name, s.In.Time(), s.Out.Time(), s.Elements, s.WaitsFor)
			}
			w.t.Fatalf("got windows %q, want %q", got, want)
		}
	}
	sort.Strings(got)
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("windows that have closed (-want +got):\n%s", diff)
	}
}

// staysOpen checks that no window closes while the partitions are asked for records several times each.
func (w *windowed) staysOpen() {
	w.t.Helper()
	fetches := make(chan struct{}, 1000)
	w.cluster.ControlKey((&kmsg.FetchRequest{}).Key(), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		select {
		case fetches <- struct{}{}:
		default:
		}
		return nil, nil, false
	})
	for range 12 {
		receive(w.t, fetches, "a fetch")
	}
	select {
	case got := <-heard.windows:
		w.t.Errorf("window %s has closed, want all open", got)
	default:
	}
}

// receive waits longer than anything here takes.
func receive[V any](t *testing.T, from <-chan V, what string) V {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("no %s in a minute", what)
		panic("unreachable")
	}
}

// unfinished is a transaction that has written and is open: what it has written is not read yet, but the
// partition does not end before it.
type unfinished struct {
	t  *testing.T
	cl *kgo.Client
}

func begin(t *testing.T, c *kfake.Cluster, id string, recs ...*kgo.Record) unfinished {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return unfinished{t, cl}
}

func (u unfinished) end(how kgo.TransactionEndTry) {
	u.t.Helper()
	if err := u.cl.EndTransaction(u.t.Context(), how); err != nil {
		u.t.Fatal(err)
	}
}

// atNoon is a record of a partition, some seconds after 12:00.
func atNoon(partition int32, seconds ...int) (recs []*kgo.Record) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, s := range seconds {
		recs = append(recs, &kgo.Record{Partition: partition, Value: []byte("x"), Timestamp: noon.Add(time.Duration(s) * time.Second)})
	}
	return recs
}

// FC-8 A: partitions that never had a record hold no window, and one that then gets an old one has it counted
// as late. When all are idle the last window closes.
func TestWindowsCloseWithoutEmptyPartitions(t *testing.T) {
	c := fake(t, 3, nil)
	produce(t, c, "", atNoon(0, 5, 65, 125, 180)...)
	busy := begin(t, c, "busy", atNoon(0, 181)...) // Partition 0 is not idle as long as this is open.
	w := newWindowed(t, c, time.Minute)
	w.start()
	w.closes("12:00:00 1", "12:01:00 1", "12:02:00 1")
	w.reads(4)
	produce(t, c, "", atNoon(1, 30)...)
	w.reads(1)
	w.staysOpen()
	busy.end(kgo.TryAbort)
	w.closes("12:03:00 1")
	if late := w.stop(); late != 1 {
		t.Errorf("got %d late records, want the one that came on an idle partition", late)
	}
}

// FC-8 B: a partition that has records, but does not give them, is not idle: no window closes without them, not
// after a restart either.
func TestWindowsWaitForASlowPartition(t *testing.T) {
	const many = 300
	c := fake(t, 2, nil)
	produce(t, c, "", atNoon(0, 5, 65, 125, 185, 245, 300)...)
	seconds := make([]int, many)
	for i := range seconds {
		seconds[i] = i
	}
	slow := begin(t, c, "slow", atNoon(1, seconds...)...)
	w := newWindowed(t, c, time.Minute)
	w.start()
	w.reads(6)
	w.staysOpen()
	if late := w.stop(); late != 0 {
		t.Errorf("got %d late records before the restart", late)
	}
	w.start()
	w.staysOpen()
	slow.end(kgo.TryCommit)
	w.reads(many)
	w.closes("12:00:00 61", "12:01:00 61", "12:02:00 61", "12:03:00 61", "12:04:00 61", "12:05:00 1")
	if late := w.stop(); late != 0 {
		t.Errorf("got %d late records", late)
	}
}

// logged keeps the warnings of the pipelines of a test.
type logged struct{ said chan string }

func (l *logged) Log(_ context.Context, sev log.Severity, _ int, text string) {
	if sev < log.SevWarn || !strings.HasPrefix(text, "kafkaio.Read") {
		return
	}
	select {
	case l.said <- text:
	default:
	}
}

// listen takes the warnings of Read until the end of the test.
func listen(t *testing.T) *logged {
	l := &logged{said: make(chan string, 100)}
	log.SetLogger(l)
	t.Cleanup(func() { log.SetLogger(&log.Structural{}) })
	return l
}

// FC-7: a bounded read waits for a transaction that is open below its end, and says so; what is written later does
// not belong to it.
func TestBoundedReadWaitsForATransaction(t *testing.T) {
	for _, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		t.Run(fmt.Sprintf("commit=%v", how), func(t *testing.T) {
			c := fake(t, 1, nil)
			produce(t, c, "", rec(0, "a"))
			open := begin(t, c, "open", rec(0, "b"))
			cfg := config(c)
			cfg.To = Latest()
			r := newRun(t, cfg)
			produce(t, c, "", rec(0, "after the end"))
			l := listen(t)
			type end struct {
				rest *Restriction
				err  error
			}
			ended := make(chan end, 1)
			go func() { // Ends with the transaction.
				rest, err := r.step(Restriction(r.parts[0]))
				ended <- end{rest, err}
			}()
			if text := receive(t, l.said, "warning"); !strings.Contains(text, "waiting at offset 1 for the outcome of an open transaction") {
				t.Errorf("got %q, want what the read waits for", text)
			}
			select {
			case got := <-ended:
				t.Errorf("the read has ended with %+v before the transaction", got)
			default:
			}
			open.end(how)
			if got := receive(t, ended, "end of the read"); got.rest != nil || got.err != nil {
				t.Errorf("got residual %v, %v, want none", got.rest, got.err)
			}
			want := []string{"0:0=a/a", "0:1=b/b"}
			if how == kgo.TryAbort {
				want = want[:1]
			}
			if diff := cmp.Diff(want, r.got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// FC-9: with bounds five wrong clocks harm nobody; without them what follows is late, and the job says so.
func TestWrongClocksInWindows(t *testing.T) {
	for _, bounded := range []bool{true, false} {
		t.Run(fmt.Sprintf("bounded=%v", bounded), func(t *testing.T) {
			noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			value := func(text string, written time.Time) *kgo.Record {
				return &kgo.Record{Value: []byte(text), Timestamp: written}
			}
			var before, after []*kgo.Record
			for i := range 100 {
				for k, recs := range []*[]*kgo.Record{&before, &after} {
					at := noon.Add(time.Duration(100*k+i) * 100 * time.Millisecond)
					*recs = append(*recs, value(fmt.Sprint(at.UnixMilli()), at))
				}
			}
			wrong := []*kgo.Record{
				value("1777636800", noon), value("1777636800000000", noon), value(fmt.Sprint(time.Now().Add(2*time.Hour).UnixMilli()), noon),
				value("no t", time.UnixMilli(-1)), value("0", noon),
			}
			c := fake(t, 1, nil)
			produce(t, c, "", append(before, wrong...)...)
			w := newWindowed(t, c, 10*time.Second)
			w.cfg.EventTime, w.cfg.MaxBehind = valueMillis, 48*time.Hour
			good := 100
			if !bounded {
				w.cfg.MaxAhead, w.cfg.MaxBehind = -1, 0
				good = 100 + 4 // What is no number is dead in any case.
			}
			w.cfg.IdleAfter = -1
			l := listen(t)
			w.start()
			w.reads(good)
			produce(t, c, "", after...)
			w.reads(100)
			// A record of a later window closes the ones before.
			last := noon.Add(time.Hour)
			produce(t, c, "", value(fmt.Sprint(last.UnixMilli()), last))
			w.reads(1)
			if bounded {
				w.closes("12:00:00 100", "12:00:10 100")
			}
			late := w.stop()
			dead := w.counter("dead_letters")
			switch {
			case bounded && (late != 0 || dead != 5):
				t.Errorf("got %d late and %d dead records, want 0 and 5", late, dead)
			case !bounded && (late < 100 || dead != 1):
				t.Errorf("without bounds got %d late and %d dead records, want at least 100 and 1", late, dead)
			case !bounded:
				if text := receive(t, l.said, "warning"); !strings.Contains(text, "topic t, partition 0, offset 101") || !strings.Contains(text, "MaxAhead") {
					t.Errorf("got warning %q, want one that names the place and the remedy", text)
				}
			}
		})
	}
}
