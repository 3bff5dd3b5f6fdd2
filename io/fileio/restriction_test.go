// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/google/go-cmp/cmp"
)

// reader reads a file with the DoFn's own methods, splitting as the numbers say.
type reader struct {
	t    *testing.T
	fn   *readFn
	file sourceFile
	rnd  *rand.Rand
	got  []string
}

// read processes a restriction, splits it in the middle of the work and then reads the residuals.
func (r *reader) read(rest Restriction) {
	r.t.Helper()
	rt := r.fn.CreateTracker(rest)
	var residuals []Restriction
	split := func() {
		fraction := []float64{0, 0.3, 0.9}[r.rnd.IntN(3)]
		primary, residual, err := rt.TrySplit(fraction)
		if err != nil {
			r.t.Fatal(err)
		}
		if residual == nil {
			return
		}
		p, q := primary.(Restriction), residual.(Restriction)
		if p.End != q.Start || p.Start != rest.Start || q.From > q.Start {
			r.t.Fatalf("split of %v gave %v and %v", rest, p, q)
		}
		if fraction == 0 && !rt.IsDone() {
			r.t.Fatalf("%v is not done after a checkpoint", p)
		}
		residuals = append(residuals, q)
	}
	if r.rnd.IntN(4) == 0 {
		split()
	}
	emit := func(_ beam.EventTime, rec Record) {
		r.got = append(r.got, spot(rec))
		if r.rnd.IntN(3) == 0 {
			split()
		}
	}
	if err := r.fn.ProcessElement(context.Background(), r.fn.CreateWatermarkEstimator(0), rt, r.file, emit, func(DeadLetter) {}); err != nil {
		r.t.Fatal(err)
	}
	if !rt.IsDone() || rt.GetError() != nil {
		r.t.Fatalf("restriction %v is not done: %v", rt.GetRestriction(), rt.GetError())
	}
	for _, q := range residuals {
		r.read(q)
	}
}

// However a file is split, every record comes once, with the same line number and offset.
func TestSplitsTile(t *testing.T) {
	jsonl := "first\n\nthird\r\n" + strings.Repeat("x", 50) + "\n{}\n{}\nlast without end"
	csv := "h1,h2\n1,\"a\nb\"\n2,\"say \"\"hi\"\"\n\nthere\"\n3,c\n\n4,d\n"
	for _, c := range []struct {
		name, content string
		format        Format
	}{
		{"a.jsonl", jsonl, JSONLines}, {"b.jsonl.gz", jsonl, JSONLines}, {"c.csv", csv, CSV}, {"d.csv.gz", csv, CSV}, {"e.jsonl.zst", jsonl, JSONLines},
		{"empty", "", JSONLines}, {"blank", "\n", JSONLines},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.name)
			writeFile(t, path, c.content)
			url, file := sourceOf(t, path)
			var want []string
			for seed := range uint64(200) {
				fn := &readFn{URL: url, Format: c.format, Header: c.format == CSV, MaxRecord: 100, Block: []int64{4, 16, 1 << 20}[seed%3]}
				if err := fn.Setup(); err != nil {
					t.Fatal(err)
				}
				r := &reader{t: t, fn: fn, file: file, rnd: rand.New(rand.NewPCG(seed, 0))}
				whole := fn.CreateInitialRestriction(file)
				blocks, err := fn.SplitRestriction(t.Context(), file, whole)
				if err != nil {
					t.Fatal(err)
				}
				for i, b := range blocks {
					if i == 0 && b.Start != whole.Start || i > 0 && b.Start != blocks[i-1].End || i == len(blocks)-1 && b.End != whole.End {
						t.Fatalf("blocks %v do not tile %v", blocks, whole)
					}
					r.read(b)
				}
				slices.Sort(r.got)
				if seed == 0 {
					want = r.got
					continue
				}
				if diff := cmp.Diff(want, r.got); diff != "" {
					t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
				}
			}
			if c.format == CSV {
				exact := []string{
					c.name + ":2@6=h1,h21,\"a\nb\"", c.name + ":4@14=h1,h22,\"say \"\"hi\"\"\n\nthere\"", c.name + ":7@36=h1,h23,c", c.name + ":9@41=h1,h24,d",
				}
				if diff := cmp.Diff(exact, want); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func FuzzScanner(f *testing.F) {
	f.Add("a\nb\r\n\nc", true, 3)
	f.Add("1,\"x\ny\"\n", true, 100)
	f.Fuzz(func(t *testing.T, content string, csv bool, limit int) {
		if limit < 0 || limit > 1<<20 {
			return
		}
		file := filepath.Join(t.TempDir(), "f")
		writeFile(t, file, content)
		url, source := sourceOf(t, file)
		if source.compressed() {
			return
		}
		fn := &readFn{URL: url, MaxRecord: limit, Block: 1 << 20}
		if csv {
			fn.Format = CSV
		}
		if err := fn.Setup(); err != nil {
			t.Fatal(err)
		}
		rt := sdf.NewLockRTracker(newTracker(fn.CreateInitialRestriction(source)))
		seen := 0
		emit := func(_ beam.EventTime, r Record) {
			if len(r.Bytes) > limit {
				t.Errorf("record of %d bytes passes a limit of %d", len(r.Bytes), limit)
			}
			seen += len(r.Bytes)
		}
		if err := fn.ProcessElement(context.Background(), fn.CreateWatermarkEstimator(0), rt, source, emit, func(DeadLetter) {}); err != nil {
			t.Fatal(err)
		}
		if !rt.IsDone() || seen > len(content) {
			t.Errorf("done %v after %d of %d bytes", rt.IsDone(), seen, len(content))
		}
	})
}
