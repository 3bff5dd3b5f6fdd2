// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// service is a server of scripts/servers, and the program of this folder with the same name that
// writes to it, with Hornbeam or plainly.
type service struct {
	name    string
	needs   string // What has to be there, in words.
	ports   int
	started string // What its log says when it is ready; empty if its port then answers.
	address string // The flag for the server, before HOST:PORT.
	prepare string // What the program does before the first turn.
	job     bool   // On Hornbeam the program is a job, with a state directory.
	env     []string
	unit    string  // Of what is written in a second,
	each    float64 // and how much of it an element is.
}

var kafka = service{
	name: "kafka", needs: "java 17, mvn, and once the network", ports: 2, started: "Kafka Server started",
	address: "--brokers=", prepare: "fill", job: true, unit: "records/s", each: 1,
}

var s3 = service{
	name: "s3", needs: "go, and once the network", ports: 1, address: "--endpoint=http://", prepare: "bucket", unit: "MB/s", each: (128 << 20) / 1e6,
	env: []string{
		"ROOT_ACCESS_KEY=hornbeam-bench", "ROOT_SECRET_KEY=hornbeam-bench-secret",
		"AWS_ACCESS_KEY_ID=hornbeam-bench", "AWS_SECRET_ACCESS_KEY=hornbeam-bench-secret", "AWS_SESSION_TOKEN=",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_ENDPOINT_URL=",
	},
}

const startTimeout = 2 * time.Minute

// script is a script of the server. scripts/bench changes to the root of the module.
func (s *service) script(name string) string { return filepath.Join("scripts/servers", s.name, name) }

// fetch sees to it that the server is here.
func (s *service) fetch() error {
	if out, err := exec.Command(s.script("fetch")).CombinedOutput(); err != nil {
		return fmt.Errorf("no %s server; it needs %s (-only names what to run without it): %w\n%s", s.name, s.needs, err, out)
	}
	return nil
}

// server is a service that runs, with what it is measured with.
type server struct {
	*service
	cmd     *exec.Cmd
	ended   chan error // Has the error of cmd when it has ended.
	dir     string
	program string
	args    []string // Of the program, in every run.
	runs    int
}

// start starts the service, on data of its own, and prepares it for n elements.
func (s *service) start(bin, n string) (run *server, err error) {
	ports, err := freePorts(s.ports)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hornbeam-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	addr := net.JoinHostPort("127.0.0.1", ports[0])
	run = &server{
		service: s, dir: dir, ended: make(chan error, 1),
		cmd:     exec.Command(s.script("start"), append([]string{filepath.Join(dir, "data")}, ports...)...),
		program: filepath.Join(bin, s.name),
		args:    []string{s.address + addr, "--n=" + n},
	}
	run.cmd.Env = append(os.Environ(), s.env...)
	run.cmd.Stdout, run.cmd.Stderr = log, log
	if err := run.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { run.ended <- run.cmd.Wait() }() // Ends with the process.
	if err = run.ready(log.Name(), addr); err == nil {
		_, _, err = run.execute(s.prepare)
	}
	if err != nil {
		run.stop()
		return nil, err
	}
	return run, nil
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

func (s *server) ready(log, addr string) error {
	late := time.After(startTimeout)
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if s.started == "" {
			if conn, err := net.Dial("tcp", addr); err == nil {
				return conn.Close()
			}
		} else if strings.Contains(string(text), s.started) {
			return nil
		}
		text = text[max(0, len(text)-4000):]
		select {
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("the %s server has ended: %w\n%s", s.name, err, text)
		case <-late:
			return fmt.Errorf("the %s server is not ready after %v:\n%s", s.name, startTimeout, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop lets the server end as it wants to, for ten seconds, and removes its data.
func (s *server) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM) // The script has become the server.
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.ended
	}
	return os.RemoveAll(s.dir)
}

func (s *server) execute(command string, args ...string) (measured, []byte, error) {
	return execute(s.env, s.program, append(append([]string{command}, s.args...), args...)...)
}

// measure runs the program on a runner, and then reads what it wrote.
func (s *server) measure(runner string) (measured, error) {
	s.runs++
	to := fmt.Sprintf("--to=%s-%d", runner, s.runs)
	args := []string{to}
	if s.job && runner == "hornbeam" {
		state := filepath.Join(s.dir, "state")
		defer os.RemoveAll(state)
		args = append(args, "--state_dir="+state)
	}
	m, out, err := s.execute(runner, args...)
	if err != nil {
		return m, err
	}
	if len(out) > 0 { // It knows better than we do when its work began.
		if err := json.Unmarshal(out, &m); err != nil {
			return m, fmt.Errorf("output %q: %w", out, err)
		}
	}
	_, out, err = s.execute("lines", to)
	if err != nil {
		return m, err
	}
	m.Count, m.Output = hash(slices.Collect(strings.Lines(string(out))))
	return m, nil
}
