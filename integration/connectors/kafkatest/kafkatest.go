// SPDX-License-Identifier: Apache-2.0

// Package kafkatest runs a real Kafka broker for tests, with scripts/servers/kafka, and kills it.
package kafkatest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Version is what the broker must say it is; later ones have a defect (scripts/servers/kafka/pom.xml).
const Version = "4.2.2"

// requireServices, set to 1, makes a missing broker a failure; else the test is skipped.
const requireServices = "HORNBEAM_REQUIRE_SERVICES"

const startTimeout = 2 * time.Minute

// Broker is one Kafka broker on 127.0.0.1 with its own data.
type Broker struct {
	Addr string // HOST:PORT; the same after a restart.

	t     testing.TB
	start string
	args  []string
	cmd   *exec.Cmd
	log   *brokerLog
}

// Start starts a broker and stops it when the test ends.
func Start(t testing.TB) *Broker {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	scripts := filepath.Join(filepath.Dir(file), "../../../scripts/servers/kafka")
	if out, err := exec.Command(filepath.Join(scripts, "fetch")).CombinedOutput(); err != nil {
		message := fmt.Sprintf("no Kafka broker (needs java 17, mvn, and once the network for scripts/servers/kafka/fetch): %v\n%s", err, out)
		if os.Getenv(requireServices) == "1" {
			t.Fatal(message)
		}
		t.Skip(message + "\nset " + requireServices + "=1 to make this a failure")
	}
	ports := freePorts(t, 2)
	b := &Broker{
		t:     t,
		Addr:  net.JoinHostPort("127.0.0.1", ports[0]),
		start: filepath.Join(scripts, "start"),
		args:  []string{t.TempDir(), ports[0], ports[1]},
	}
	t.Cleanup(func() {
		if b.cmd != nil {
			b.Stop()
		}
	})
	b.Restart()
	return b
}

// freePorts returns ports that were free a moment ago.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

// Restart starts a broker that was killed or stopped, with the data it had, and waits until it is ready.
func (b *Broker) Restart() {
	b.t.Helper()
	begin := time.Now()
	b.log = &brokerLog{ready: make(chan struct{}), ended: make(chan struct{})}
	b.cmd = exec.Command(b.start, b.args...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // The script's children die with it.
	out, err := b.cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go b.log.read(out) // Ends with the process.
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-b.log.ready:
	case <-b.log.ended:
		b.t.Fatalf("the broker has ended:\n%s", b.log.tail())
	case <-timer.C:
		b.t.Fatalf("the broker is not ready after %v:\n%s", startTimeout, b.log.tail())
	}
	if got := b.log.version(); got != Version {
		b.t.Fatalf("the broker is Kafka %q, want %s", got, Version)
	}
	b.t.Logf("Kafka %s on %s is ready after %v", Version, b.Addr, time.Since(begin).Round(time.Millisecond))
}

// Kill ends the broker like a power switch.
func (b *Broker) Kill() { b.end(syscall.SIGKILL) }

// Stop lets the broker end as it wants to, for ten seconds.
func (b *Broker) Stop() {
	timer := time.AfterFunc(10*time.Second, func() { syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	b.end(syscall.SIGTERM)
}

func (b *Broker) end(sig syscall.Signal) {
	b.t.Helper()
	if err := syscall.Kill(-b.cmd.Process.Pid, sig); err != nil {
		b.t.Errorf("end the broker: %v", err)
	}
	<-b.log.ended // Only then may the pipe be closed.
	b.cmd.Wait()  // Its error is the signal.
	b.cmd = nil
}

// brokerLog follows the log of one run of the broker.
type brokerLog struct {
	ready chan struct{}
	ended chan struct{}

	mu    sync.Mutex // Guards what follows.
	lines []string
	is    string
}

var versionLine = regexp.MustCompile(`Kafka version: (\S+)`)

func (l *brokerLog) read(out io.Reader) {
	defer close(l.ended)
	ready := false
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		l.mu.Lock()
		if l.lines = append(l.lines, line); len(l.lines) > 60 {
			l.lines = l.lines[1:]
		}
		if m := versionLine.FindStringSubmatch(line); m != nil {
			l.is = m[1]
		}
		l.mu.Unlock()
		if !ready && strings.Contains(line, "Kafka Server started") {
			ready = true
			close(l.ready)
		}
		if err != nil {
			return
		}
	}
}

func (l *brokerLog) version() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.is
}

func (l *brokerLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}
