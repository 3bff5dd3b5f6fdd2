// SPDX-License-Identifier: Apache-2.0

package dlq_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/transforms/dlq"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "hornbeam") }

func ExampleNew() {
	bad := dlq.New("PARSE", "cards.Parse", "want 7 fields, got 2", []byte("caf\xe9,1"))
	text, err := json.MarshalIndent(bad, "", "  ")
	fmt.Println(string(text), err)
	// Output:
	// {
	//   "record": {
	//     "human_readable_json_record": "\"caf\\\\xe9,1\"",
	//     "encoded_record": "Y2Fm6Swx",
	//     "coder": "bytes"
	//   },
	//   "failure": {
	//     "description": "want 7 fields, got 2",
	//     "exception": "",
	//     "failing_transform": "cards.Parse",
	//     "code": "PARSE"
	//   }
	// } <nil>
}

func TestCollectCounts(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	a := beam.Create(s, dlq.New("A", "x", "", []byte("1")), dlq.New("B", "x", "", []byte("\xff")))
	b := beam.Create(s, dlq.Of("A", "y", "", map[string]int{"v": 1}))
	passert.Count(s, dlq.Encode(s, dlq.Collect(s, a, b)), "lines", 3)
	counts := map[string]int64{}
	for _, c := range ptest.RunAndValidate(t, p).Metrics().AllMetrics().Counters() {
		if c.Namespace() == "dlq" {
			counts[c.Name()] += c.Result()
		}
	}
	if counts["A"] != 2 || counts["B"] != 1 {
		t.Errorf("counters: got %v, want A 2 and B 1", counts)
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, original []byte) {
		bad := dlq.New("A", "x", string(original), original)
		if !json.Valid([]byte(bad.Record.HumanReadableJSON)) {
			t.Errorf("not JSON: %q", bad.Record.HumanReadableJSON)
		}
		text, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		var back dlq.BadRecord
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Record.Encoded, original) {
			t.Errorf("original: got %q, want %q", back.Record.Encoded, original)
		}
	})
}
