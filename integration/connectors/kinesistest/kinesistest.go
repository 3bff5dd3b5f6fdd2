// SPDX-License-Identifier: Apache-2.0

// Package kinesistest runs a Kinesis server for tests, with scripts/servers/kinesis.
package kinesistest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// requireServices, set to 1, makes a missing server a failure; else the test is skipped.
const requireServices = "HORNBEAM_REQUIRE_SERVICES"

const startTimeout = time.Minute

// Server is a Kinesis server on 127.0.0.1. Its data is gone when it ends.
type Server struct {
	URL    string
	Client *kinesis.Client

	t testing.TB
}

// Start starts a server and stops it when the test ends. It sets the environment so that AWS's default chain finds
// the server's region and credentials.
func Start(t *testing.T) *Server {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	scripts := filepath.Join(filepath.Dir(file), "../../../scripts/servers/kinesis")
	if out, err := exec.Command(filepath.Join(scripts, "fetch")).CombinedOutput(); err != nil {
		message := fmt.Sprintf("no Kinesis server (needs node 18, npm, and once the network for scripts/servers/kinesis/fetch): %v\n%s", err, out)
		if os.Getenv(requireServices) == "1" {
			t.Fatal(message)
		}
		t.Skip(message + "\nset " + requireServices + "=1 to make this a failure")
	}
	begin := time.Now()
	ports := freePorts(t)
	log := &tail{}
	cmd := exec.Command(filepath.Join(scripts, "start"), ports...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // The script's children die with it.
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // Ends with the process.
		defer close(ended)
		cmd.Wait() // Its error is the signal.
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // It has no data to save.
		<-ended
	})
	addr := net.JoinHostPort("127.0.0.1", ports[0])
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-ended:
			t.Fatalf("the server has ended:\n%s", log)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(begin) > startTimeout {
			t.Fatalf("the server is not ready after %v:\n%s", startTimeout, log)
		}
	}
	t.Logf("kinesis-local on %s is ready after %v", addr, time.Since(begin).Round(time.Millisecond))
	for name, value := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, URL: "http://" + addr}
	s.Client = kinesis.NewFromConfig(cfg, func(o *kinesis.Options) { o.BaseEndpoint = &s.URL })
	return s
}

// freePorts returns two ports that were free a moment ago.
func freePorts(t testing.TB) []string {
	t.Helper()
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

// tail is the end of a log.
type tail struct {
	mu  sync.Mutex // Guards buf.
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 1<<16 {
		l.buf.Next(l.buf.Len() - 1<<12)
	}
	return l.buf.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Busy answers a request as a busy Kinesis does.
func Busy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprint(w, `{"__type":"ProvisionedThroughputExceededException","message":"Rate exceeded for shard."}`)
}

// Create creates a stream and waits until it is active.
func (s *Server) Create(t *testing.T, stream string, shards int32) {
	t.Helper()
	if _, err := s.Client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	s.await(t, stream)
}

// await waits until a change of a stream is through.
func (s *Server) await(t *testing.T, stream string) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); ; {
		out, err := s.Client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
		if err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stream %s is not active: %v", stream, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Put puts records in; each is its own key.
func (s *Server) Put(t *testing.T, stream string, texts ...string) {
	t.Helper()
	for len(texts) > 0 {
		n := min(len(texts), 500)
		var entries []types.PutRecordsRequestEntry
		for _, text := range texts[:n] {
			entries = append(entries, types.PutRecordsRequestEntry{PartitionKey: aws.String(text), Data: []byte(text)})
		}
		out, err := s.Client.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: &stream, Records: entries})
		if err != nil || aws.ToInt32(out.FailedRecordCount) > 0 {
			t.Fatal("put records: ", err)
		}
		texts = texts[n:]
	}
}

// Split splits a shard at a hash key, which is decimal.
func (s *Server) Split(t *testing.T, stream, shard, hash string) {
	t.Helper()
	if _, err := s.Client.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: &shard, NewStartingHashKey: &hash}); err != nil {
		t.Fatal(err)
	}
	s.await(t, stream)
}

// Merge merges two neighbours.
func (s *Server) Merge(t *testing.T, stream, low, high string) {
	t.Helper()
	if _, err := s.Client.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: &low, AdjacentShardToMerge: &high}); err != nil {
		t.Fatal(err)
	}
	s.await(t, stream)
}

// Shards returns the names of the shards, closed ones too, in the order of their names.
func (s *Server) Shards(t *testing.T, stream string) (names []string) {
	t.Helper()
	out, err := s.Client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range out.Shards {
		names = append(names, aws.ToString(sh.ShardId))
	}
	return names
}
