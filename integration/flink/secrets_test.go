// SPDX-License-Identifier: Apache-2.0

package flink

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/hornbeam-dev/hornbeam/integration/canary"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/kafkatest"
)

// A password travels to a cluster as a reference: it is neither in the pipeline nor among the options.
func TestSecretsAreNotSubmitted(t *testing.T) {
	addr, params := kafkatest.Secured(t, canary.Secret, "0,31,596,3156,57.16,0,0")
	t.Setenv("HORNBEAM_TEST_PASSWORD", canary.Secret)
	t.Setenv("AWS_SECRET_ACCESS_KEY", canary.Secret)
	const reference = "env:HORNBEAM_TEST_PASSWORD"
	s, r := submit(t, "--input=kafka://"+addr+"/cards?to=latest&"+params+reference)
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, err := proto.Marshal(s.prepared)
	if err != nil {
		t.Fatal(err)
	}
	for _, staged := range s.staged {
		sent = append(sent, staged...)
	}
	if canary.In(sent) {
		t.Error("the secret is in what is sent to the job server")
	}
	if canary.In([]byte(r.stdout + r.stderr)) {
		t.Errorf("the secret is in what the program says:\n%s%s", r.stdout, r.stderr)
	}
	if !canary.TextIn(sent, reference) {
		t.Error("the reference is not in what is sent: the search does not see what is there")
	}
}
