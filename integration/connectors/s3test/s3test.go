// SPDX-License-Identifier: Apache-2.0

// Package s3test runs a real S3 server for tests, with scripts/servers/s3.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// requireServices, set to 1, makes a missing server a failure; else the test is skipped.
const requireServices = "HORNBEAM_REQUIRE_SERVICES"

const (
	startTimeout = 30 * time.Second
	accessKey    = "hornbeam-test"
)

// Server is one S3 server on 127.0.0.1 with its own data and one bucket.
type Server struct {
	Endpoint string     // http://HOST:PORT
	Bucket   string     // Is empty at the start.
	Client   *s3.Client // Goes to the server, whatever is between it and the tested.

	t   testing.TB
	cmd *exec.Cmd
	log *tail
}

// Start starts a server, stops it when the test ends, and sets the environment so that s3io has its credentials.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, "hornbeam-test-secret")
}

// StartWith is Start with a secret key of one's own.
func StartWith(t testing.TB, secretKey string) *Server {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	scripts := filepath.Join(filepath.Dir(file), "../../../scripts/servers/s3")
	if out, err := exec.Command(filepath.Join(scripts, "fetch")).CombinedOutput(); err != nil {
		message := fmt.Sprintf("no S3 server (needs go, and once the network for scripts/servers/s3/fetch): %v\n%s", err, out)
		if os.Getenv(requireServices) == "1" {
			t.Fatal(message)
		}
		t.Skip(message + "\nset " + requireServices + "=1 to make this a failure")
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(name, value)
	}
	begin := time.Now()
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := &Server{
		Endpoint: "http://" + addr,
		Bucket:   "hornbeam",
		Client: s3.New(s3.Options{
			BaseEndpoint: aws.String("http://" + addr), UsePathStyle: true, Region: "us-east-1",
			Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		}),
		t:   t,
		cmd: exec.Command(filepath.Join(scripts, "start"), t.TempDir(), port),
		log: &tail{},
	}
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // The script's children die with it.
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }() // Ends with the process.
	t.Cleanup(func() { s.stop(ended) })
	s.ready(ended)
	if _, err := s.Client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.Bucket}); err != nil {
		t.Fatalf("make a bucket: %v\n%s", err, s.log)
	}
	t.Logf("versitygw on %s is ready after %v", addr, time.Since(begin).Round(time.Millisecond))
	return s
}

// freeAddr returns an address that was free a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ready waits until the server answers, as its credentials demand: another process on the port would not.
func (s *Server) ready(ended chan error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), startTimeout)
	defer cancel()
	for {
		_, err := s.Client.ListBuckets(ctx, nil, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
		if err == nil {
			return
		}
		select {
		case end := <-ended:
			ended <- end
			s.t.Fatalf("the S3 server has ended: %v\n%s", end, s.log)
		case <-ctx.Done():
			s.t.Fatalf("the S3 server is not ready after %v: %v\n%s", startTimeout, err, s.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop lets the server end as it wants to, for ten seconds.
func (s *Server) stop(ended chan error) {
	timer := time.AfterFunc(10*time.Second, func() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	<-ended
}

// URL returns the URL of a store below a prefix of the bucket, at another endpoint if there is one in between.
func (s *Server) URL(prefix, endpoint string) string {
	if endpoint == "" {
		endpoint = s.Endpoint
	}
	return fmt.Sprintf("s3://%s/%s?endpoint=%s", s.Bucket, prefix, endpoint)
}

// Uploads returns the keys of the multipart uploads that are open.
func (s *Server) Uploads() []string {
	s.t.Helper()
	var keys []string
	p := s3.NewListMultipartUploadsPaginator(s.Client, &s3.ListMultipartUploadsInput{Bucket: &s.Bucket})
	for p.HasMorePages() {
		page, err := p.NextPage(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, u := range page.Uploads {
			keys = append(keys, aws.ToString(u.Key))
		}
	}
	slices.Sort(keys)
	return keys
}

// SlowDown answers a request as a busy S3 does.
func SlowDown(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // Guards text.
	text []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - 8<<10; over > 0 {
		l.text = bytes.Clone(l.text[over:])
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
