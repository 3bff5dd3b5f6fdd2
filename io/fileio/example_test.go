// SPDX-License-Identifier: Apache-2.0

package fileio_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"

	"github.com/hornbeam-dev/hornbeam/io/fileio"
)

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "fileio")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	p, s := beam.NewPipelineWithRoot()
	lines := beam.Create(s, `{"n":2}`, `{"n":1}`)
	fileio.Write(s, fileio.WriteConfig{URL: dir, Prefix: "numbers"}, lines)
	if err := beamx.Run(context.Background(), p); err != nil {
		fmt.Println(err)
		return
	}
	content, err := os.ReadFile(filepath.Join(dir, "numbers-00000-of-00001.jsonl"))
	fmt.Print(string(content), err)
	// Output:
	// {"n":1}
	// {"n":2}
	// <nil>
}
