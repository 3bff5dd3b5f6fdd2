// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// progress shows how a job goes: one line that is written over itself on a terminal, else a line
// now and then.
type progress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	began    time.Time
	events   int64
	at       time.Time
}

func newProgress(w io.Writer) *progress {
	file, terminal := w.(*os.File)
	terminal = terminal && term.IsTerminal(int(file.Fd()))
	every := 10 * time.Second
	if terminal {
		every = 500 * time.Millisecond
	}
	now := time.Now()
	return &progress{w: w, terminal: terminal, every: every, began: now, at: now}
}

func (p *progress) line(program Program, r *runner.Result, stateBytes uint64) {
	now := time.Now()
	t := totals(program, r)
	rate := float64(t.In-p.events) / now.Sub(p.at).Seconds()
	p.events, p.at = t.In, now
	w := r.Watermarks()
	eventTime, lag := "none yet", "none"
	if !w.Source.IsZero() {
		eventTime = w.Source.Format(time.RFC3339)
	}
	if w.Lag > 0 {
		lag = w.Lag.Round(time.Second).String()
	}
	text := fmt.Sprintf("%s events  %s/s  event time %s  watermark lag %s  state %s",
		group(t.In), group(int64(rate)), eventTime, lag, size(stateBytes))
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintf(p.w, "%s %s\n", now.UTC().Format(time.RFC3339), text)
}

func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// group writes n with commas between its thousands.
func group(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

func size(bytes uint64) string {
	const units = "kMGT"
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	v := float64(bytes)
	i := -1
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[i:i+1] + "B"
}
