// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

func init() {
	blob.Register("remote", func(_ context.Context, url string) (blob.Store, error) {
		path, _, _ := strings.Cut(strings.TrimPrefix(url, "remote://"), "?")
		dir, err := blob.OpenDir(path)
		return remote{dir, remoteAt(path), url}, err
	})
}

// remote is a store of the scheme remote://, which is a local folder that behaves as a service does: an object can only
// be read from an offset on, and requests fail and are repeated.
type remote struct {
	blob.Store
	*service
	url string
}

// URL implements blob.Store.
func (r remote) URL() string { return r.url }

// service is what the stores of one folder have in common.
type service struct {
	opens atomic.Int64 // Requests to read,
	bytes atomic.Int64 // and what was read.
	fail  atomic.Int64 // How many of the next requests fail,
	lose  atomic.Int64 // and how many that create succeed, but do not say so.
}

var services sync.Map // Of *service, by folder.

func remoteAt(dir string) *service {
	s, _ := services.LoadOrStore(dir, &service{})
	return s.(*service)
}

var errBusy = errors.New("the service is busy")

// busy is the answer that a request gets as long as n is not used up.
func busy(n *atomic.Int64) error {
	if n.Add(-1) >= 0 {
		return errBusy
	}
	n.Store(0)
	return nil
}

var patience = attempt.Loop{First: time.Millisecond, Most: time.Millisecond, Classify: func(err error) attempt.Outcome {
	if errors.Is(err, errBusy) {
		return attempt.Unknown
	}
	return attempt.Permanent
}}

// Open implements blob.Store.
func (r remote) Open(ctx context.Context, o blob.Object, offset int64) (io.ReadCloser, error) {
	r.opens.Add(1)
	in, err := patience.Reader(ctx, attempt.Source{
		What: o.Key, Timeout: time.Minute, Fail: func(err error) error { return err },
		Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			if err := busy(&r.fail); err != nil {
				return nil, err
			}
			return r.Store.Open(ctx, o, offset)
		},
	}, offset)
	return counting{in, &r.bytes}, err
}

// counting counts what is read.
type counting struct {
	io.ReadCloser
	n *atomic.Int64
}

// Read implements io.Reader.
func (c counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Create implements blob.Store.
func (r remote) Create(ctx context.Context, key string, c blob.Content) (existed bool, err error) {
	_, err = patience.Do(ctx, key, 0, func(ctx context.Context) (err error) {
		if err = busy(&r.fail); err == nil {
			existed, err = r.Store.Create(ctx, key, c)
		}
		if err == nil {
			err = busy(&r.lose)
		}
		return err
	}, nil)
	return existed, err
}
