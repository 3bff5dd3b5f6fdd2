// SPDX-License-Identifier: Apache-2.0

package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// Source is something that can be read from an offset.
type Source struct {
	What    string        // Names it in the log.
	Timeout time.Duration // How long Open may take, and how long no bytes may arrive.
	Open    func(ctx context.Context, offset int64) (io.ReadCloser, error)
	Fail    func(error) error // Wraps the errors of Read; of Open, too.
}

// Reader reads a source from an offset. When the connection breaks, or gives no bytes for too long, it goes on
// where it was. ctx lasts until Close.
func (l Loop) Reader(ctx context.Context, s Source, offset int64) (io.ReadCloser, error) {
	r := &reader{loop: l, source: s, offset: offset}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	if err := r.open(); err != nil {
		r.cancel(nil)
		return nil, s.Fail(err)
	}
	return r, nil
}

var (
	errStuck  = errors.New("no bytes arrived for too long")
	errClosed = errors.New("the reader is closed")
)

type reader struct {
	loop   Loop
	source Source
	ctx    context.Context
	cancel context.CancelCauseFunc

	offset int64 // Of the next byte.
	body   io.ReadCloser
	stop   context.CancelFunc // Ends the request of body.
	broken error              // What body said at its end.
	fails  int                // Broken connections since bytes arrived.
}

// open asks for the rest.
func (r *reader) open() error {
	_, err := r.loop.Do(r.ctx, r.source.What, r.source.Timeout, func(attempt context.Context) error {
		ctx, cancel := context.WithCancel(r.ctx) // It lasts as long as the body, which is longer than the attempt.
		opened := context.AfterFunc(attempt, cancel)
		body, err := r.source.Open(ctx, r.offset)
		if !opened() && r.ctx.Err() == nil {
			if err == nil {
				body.Close()
			}
			err = errStuck
		}
		if err != nil {
			cancel()
			return err
		}
		r.body, r.stop = body, cancel
		return nil
	}, nil)
	return err
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.broken != nil && r.broken != io.EOF {
			if err := r.reopen(); err != nil {
				return 0, r.source.Fail(err)
			}
		}
		if r.broken == io.EOF || len(p) == 0 {
			return 0, r.broken
		}
		timer := time.AfterFunc(r.source.Timeout, r.stop)
		n, err := r.body.Read(p)
		if !timer.Stop() && err != io.EOF {
			err = errStuck // Even after bytes: the request has ended.
		}
		r.offset += int64(n)
		r.broken = err
		if n > 0 {
			r.fails = 0
			return n, nil
		}
	}
}

// reopen goes on after the body has failed.
func (r *reader) reopen() error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if r.broken != errStuck && r.loop.Classify(r.broken) == Permanent {
		return r.broken // Among them a checksum that is wrong.
	}
	r.body.Close()
	r.stop()
	if r.fails > 0 && !Wait(r.ctx, min(r.loop.First<<min(r.fails, 16), r.loop.Most)) {
		return fmt.Errorf("%w; the connection had ended with: %w", context.Cause(r.ctx), r.broken)
	}
	r.fails++
	if loud(r.fails) {
		log.Warnf(r.ctx, "%s: still trying after %d connections that gave nothing: %v", r.source.What, r.fails, r.broken)
	}
	if err := r.open(); err != nil {
		return err
	}
	r.broken = nil
	return nil
}

func (r *reader) Close() error {
	err := r.body.Close()
	r.stop()
	r.cancel(errClosed)
	return err
}
