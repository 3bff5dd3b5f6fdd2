// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hornbeam-dev/hornbeam/integration/canary"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/kafkatest"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/s3test"
)

// silent runs a job, and fails if its output, its state or what it has written contains the secret.
func silent(t *testing.T, j Job, code int) Ended {
	t.Helper()
	ended := must[Ended](t)(j.Run())
	if ended.Code != code {
		t.Errorf("got code %d, want %d:\n%s", ended.Code, code, ended.Stderr)
	}
	if canary.In([]byte(ended.Stdout + ended.Stderr)) {
		t.Errorf("the secret is in what it says:\n%s%s", ended.Stdout, ended.Stderr)
	}
	if found := filesWith(t, j.Dir, canary.Secret); found != nil {
		t.Errorf("the secret is in %v", found)
	}
	return ended
}

// filesWith returns the files below a folder that contain a text, as it is or in base64, as DoFns are in a pipeline.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if canary.TextIn(content, text) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSecretsOfKafka gives a password by reference, a wrong one, and one where none belongs.
func TestSecretsOfKafka(t *testing.T) {
	addr, params := kafkatest.Secured(t, canary.Secret, "0,31,596,3156,57.16,0,0")
	run := func(t *testing.T, code int, password string) (Job, Ended) {
		t.Helper()
		place := func(topic, positions string) string {
			return "kafka://" + addr + "/" + topic + "?" + positions + params + password
		}
		j := Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t), To: topicAt(place("alerts", ""))}
		j.Args = []string{"--input=" + place("cards", "from=earliest&to=latest&"), "--job_name=canary"}
		return j, silent(t, j, code)
	}
	t.Setenv("HORNBEAM_TEST_PASSWORD", canary.Secret)
	t.Run("by reference", func(t *testing.T) {
		j, ended := run(t, 0, "env:HORNBEAM_TEST_PASSWORD")
		if !strings.Contains(ended.Stdout, `"in":1`) {
			t.Errorf("summary %s, want one record in", ended.Stdout)
		}
		// A job that goes on has its pipeline in the state directory: with the reference, and so not with the secret.
		endless := Job{Program: j.Program, Dir: work(t), To: j.To}
		endless.Args = []string{strings.Replace(j.Args[0], "&to=latest", "", 1)}
		interrupt(t, endless, 3*time.Second)
		if filesWith(t, endless.Dir, "env:HORNBEAM_TEST_PASSWORD") == nil {
			t.Error("the reference is not in the state directory")
		}
		if found := filesWith(t, endless.Dir, canary.Secret); found != nil {
			t.Errorf("the secret is in %v", found)
		}
	})
	t.Run("in the URL", func(t *testing.T) { run(t, 1, canary.Secret) })
	t.Run("wrong", func(t *testing.T) {
		t.Setenv("HORNBEAM_TEST_PASSWORD", canary.Secret+"-wrong")
		run(t, 1, "env:HORNBEAM_TEST_PASSWORD")
	})
	t.Run("in front of the broker", func(t *testing.T) {
		j := Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t), To: topicAt("kafka://ann:" + canary.Secret + "@" + addr + "/alerts")}
		silent(t, j, 1)
	})
	t.Run("registry", func(t *testing.T) {
		j := Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t)}
		for _, further := range []string{"&registry=http://127.0.0.1:1&registry_auth=ann:" + canary.Secret, "&registry=http://ann:" + canary.Secret + "@127.0.0.1:1"} {
			j.Args = []string{"--input=kafka://" + addr + "/cards?to=latest&" + params + "env:HORNBEAM_TEST_PASSWORD" + further}
			silent(t, j, 1)
		}
	})
}

// topicAt is a destination at a URL of its own.
type topicAt string

func (to topicAt) URL(string) string              { return string(to) }
func (to topicAt) Create(string) error            { return nil }
func (to topicAt) Lines(string) ([]string, error) { return nil, nil }

// TestS3Secrets writes to a server whose secret key is the canary, and to places that do not take it.
func TestS3Secrets(t *testing.T) {
	srv := s3test.StartWith(t, canary.Secret)
	j := Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t), Args: []string{"--days=1"}, To: topicAt(srv.URL("secrets", ""))}
	silent(t, j, 0)
	t.Run("in the URL", func(t *testing.T) {
		silent(t, Job{Program: j.Program, Dir: work(t), To: topicAt("s3://key:" + canary.Secret + "@bucket/prefix")}, 1)
	})
	t.Run("wrong", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", canary.Secret+"-wrong")
		silent(t, Job{Program: j.Program, Dir: work(t), To: j.To}, 1)
	})
}

// TestSecretsOfGCSAndKinesis uses credentials that nobody can accept.
func TestSecretsOfGCSAndKinesis(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": canary.Secret, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	key := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(key, fmt.Appendf(nil, `{"type":"service_account","client_email":"a@b","private_key":%q}`, canary.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", key)
	for _, place := range []string{
		"kinesis://s?endpoint=http://127.0.0.1:1", "kinesis://ann:" + canary.Secret + "@s", "kinesis://s?secret=" + canary.Secret,
		"gs://bucket?key=" + canary.Secret + "&x=y", "gs://ann:" + canary.Secret + "@bucket/prefix", "ftp://ann:" + canary.Secret + "@host/x",
	} {
		t.Run(strings.ReplaceAll(place, canary.Secret, "SECRET"), func(t *testing.T) {
			silent(t, Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t), To: topicAt(place)}, 1)
			j := Job{Program: filepath.Join(bin, "frauddetection"), Dir: work(t), Args: []string{"--input=" + place}}
			silent(t, j, 1)
			j.Args = []string{"--dead_letters=" + place}
			silent(t, j, 1)
		})
	}
}

// TestSecretsControl has a program that says and keeps all it is told.
func TestSecretsControl(t *testing.T) {
	dir := work(t)
	script := filepath.Join(dir, "tells")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nmkdir -p "+dir+"/state\necho \"$@\" | tee "+dir+"/state/log\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(script, "--output=kafka://ann:"+canary.Secret+"@host").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), canary.Secret) || filesWith(t, dir, canary.Secret) == nil {
		t.Error("the search does not find a secret that is there")
	}
}
