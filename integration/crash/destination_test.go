// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/faults"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/gcstest"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/kinesistest"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/s3test"
	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/fileio"
	_ "github.com/hornbeam-dev/hornbeam/io/gcsio"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
	_ "github.com/hornbeam-dev/hornbeam/io/s3io"
	"github.com/hornbeam-dev/hornbeam/runner"
)

func init() { register.Function1x1(data) }

// trouble is what happens between a pipeline and a service; 2 % of the answers are lost.
var trouble = map[faults.Kind]float64{
	faults.Lost: 0.02, faults.Late: 0.005, faults.Failed: 0.02, faults.Refused: 0.02, faults.Reset: 0.02, faults.Severed: 0.01, faults.Torn: 0.02,
}

const (
	impatience = time.Second             // How long a store waits for an answer.
	lateness   = 1500 * time.Millisecond // Of a late answer.
)

// stored is a place for files: a bucket, with trouble on the way to it.
type stored struct {
	through func(place string) string // Its URL, through trouble.
	direct  func(place string) string // Its URL.
	left    func() []string           // Uploads that are open; nil if the service has none.
}

func (s stored) URL(place string) string { return s.through(place) }

func (s stored) Create(string) error { return nil }

// Lines returns the lines of all objects but those about the job, and fails if something is left that is no object.
func (s stored) Lines(place string) (lines []string, err error) {
	ctx := context.Background()
	store, err := blob.Open(ctx, s.direct(place))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for o, err := range store.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if foreign(o.Key) {
			continue
		}
		r, err := store.Open(ctx, o, 0)
		if err != nil {
			return nil, err
		}
		in := bufio.NewScanner(r)
		for in.Scan() {
			lines = append(lines, o.Key+": "+in.Text())
		}
		if err := errors.Join(in.Err(), r.Close()); err != nil {
			return nil, err
		}
	}
	if s.left != nil {
		if left := s.left(); len(left) > 0 {
			return nil, fmt.Errorf("uploads are left: %v", left)
		}
	}
	return lines, nil
}

func s3(t *testing.T) stored {
	t.Helper()
	srv := s3test.Start(t)
	proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: *seed, Rates: trouble, Delay: lateness, Busy: s3test.SlowDown})
	t.Cleanup(func() { t.Logf("requests: %v", proxy.Counts()) })
	return stored{
		through: func(place string) string { return srv.URL(place, proxy.URL) + "&timeout=" + impatience.String() },
		direct:  func(place string) string { return srv.URL(place, "") },
		left:    srv.Uploads,
	}
}

func gcs(t *testing.T) stored {
	t.Helper()
	srv := gcstest.Start(t)
	proxy := faults.Start(t, srv.Endpoint, faults.Plan{Seed: *seed, Rates: trouble, Delay: lateness, Busy: gcstest.Busy})
	t.Cleanup(func() { t.Logf("requests: %v", proxy.Counts()) })
	srv.Through(proxy.URL) // Whoever reads bears it, too.
	return stored{through: srv.URL, direct: srv.URL}
}

// streams is a Kinesis service, with trouble on the way to it.
type streams struct {
	t     *testing.T
	srv   *kinesistest.Server
	proxy *faults.Proxy
	raw   bool // Read without dropping repeats.
}

func kinesis(t *testing.T) *streams {
	t.Helper()
	srv := kinesistest.Start(t)
	proxy := faults.Start(t, srv.URL, faults.Plan{Seed: *seed, Rates: trouble, Delay: lateness, Busy: kinesistest.Busy})
	t.Cleanup(func() { t.Logf("requests: %v", proxy.Counts()) })
	return &streams{t: t, srv: srv, proxy: proxy}
}

func (s *streams) URL(place string) string {
	return "kinesis://" + place + "?region=us-east-1&endpoint=" + s.proxy.URL
}

func (s *streams) Create(place string) error {
	s.srv.Create(s.t, place, 2)
	return nil
}

// Lines returns the records, as kinesisio reads them.
func (s *streams) Lines(place string) ([]string, error) {
	dir, err := os.MkdirTemp("", "hornbeam-stream-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, scope := beam.NewPipelineWithRoot()
	records, unread := kinesisio.Read(scope, kinesisio.ReadConfig{
		Stream: place, Region: "us-east-1", Endpoint: s.srv.URL,
		From: kinesisio.Earliest(), To: kinesisio.Latest(), Dedupe: !s.raw,
	})
	written, err := fileio.TryWrite(scope, fileio.WriteConfig{URL: dir}, beam.ParDo(scope, data, records))
	if err != nil {
		return nil, err
	}
	passert.Empty(scope, unread)
	passert.Empty(scope, written.Dead)
	if _, err := beam.Run(context.Background(), runner.Name, p); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "part-*"))
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")...)
	}
	return lines, nil
}

// data is without the mark, whose bytes may be the end of a line.
func data(r kinesisio.Record) []byte {
	if _, data, marked := kinesisio.ParseMark(r.Data); marked {
		return data
	}
	return r.Data
}
