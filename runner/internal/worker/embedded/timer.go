// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec"

	"github.com/hornbeam-dev/hornbeam/runner/internal/bundle"
	"github.com/hornbeam-dev/hornbeam/runner/internal/coder"
	"github.com/hornbeam-dev/hornbeam/runner/internal/event"
	"github.com/hornbeam-dev/hornbeam/runner/internal/plan"
)

// timerSink takes what a transform sets and clears of one timer family.
type timerSink struct {
	run               *run
	transform, family string
	domain            plan.Domain
}

// OpenTimerWrite is how the executor asks where to put timers.
func (r *run) OpenTimerWrite(_ context.Context, id exec.StreamID, family string) (io.WriteCloser, error) {
	domain, ok := r.stage.timers[stateName{id.PtransformID, family}]
	if !ok || !r.stage.Keyed() {
		return nil, r.fail(fmt.Errorf("a timer of the undeclared family %q of %q", family, id.PtransformID))
	}
	return &timerSink{r, id.PtransformID, family, domain}, nil
}

// Close is there for io.WriteCloser.
func (t *timerSink) Close() error { return nil }

// Write takes one encoded timer. The SDK ignores the error that it returns.
func (t *timerSink) Write(p []byte) (int, error) {
	if err := t.add(bytes.Clone(p)); err != nil {
		return 0, t.run.fail(fmt.Errorf("timer family %q of %q: %w", t.family, t.transform, err))
	}
	return len(p), nil
}

// add reads beam:coder:timer:v1: key, tag, windows, whether it is cleared, and if not when to
// fire, the hold and the pane. A timer of several windows is as many timers.
func (t *timerSink) add(b []byte) error {
	r := t.run
	change := bundle.TimerChange{Timer: bundle.Timer{
		Kind: bundle.UserTimer, Transform: t.transform, Family: t.family, Domain: t.domain,
	}}
	n, err := r.stage.key(b)
	if err != nil {
		return err
	}
	change.Timer.Key, b = b[:n:n], b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return coder.ErrShort
	}
	change.Timer.Tag, b = string(b[n:n+int(size)]), b[n+int(size):]
	windows, n, err := cutWindows(r.stage.windowed, b)
	if err != nil {
		return err
	}
	b = b[n:]
	if len(b) == 0 {
		return coder.ErrShort
	}
	change.Clear, b = b[0] != 0, b[1:]
	if !change.Clear {
		if len(b) < 16 {
			return coder.ErrShort
		}
		change.Timer.Due = event.Clamp(int64(event.ReadTimestamp(b)))
		change.Timer.Hold = event.Clamp(int64(event.ReadTimestamp(b[8:])))
		if change.Timer.Pane, _, err = event.ReadPane(b[16:]); err != nil {
			return err
		}
	}
	g, err := r.group(change.Timer.Key)
	if err != nil {
		return err
	}
	for _, change.Timer.Window = range windows {
		g.timers = append(g.timers, change)
	}
	return nil
}

// cutWindows returns the encoded windows at the head of b, which their number precedes.
func cutWindows(c coder.Windowed, b []byte) (windows [][]byte, n int, err error) {
	if len(b) < 4 {
		return nil, 0, coder.ErrShort
	}
	count := binary.BigEndian.Uint32(b)
	n = 4
	for ; count > 0; count-- {
		_, size, err := c.ReadWindow(b[n:])
		if err != nil {
			return nil, 0, err
		}
		windows = append(windows, b[n:n+size:n+size])
		n += size
		if c.Global && len(windows) > 1 {
			return nil, 0, fmt.Errorf("a timer is %d times in the global window", count+1)
		}
	}
	return windows, n, nil
}
