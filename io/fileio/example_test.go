// SPDX-License-Identifier: Apache-2.0

package fileio_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
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

// city is a row of a file with columns.
type city struct {
	Name   string `json:"name"`
	People int64  `json:"people"`
}

func init() {
	beam.RegisterType(reflect.TypeFor[city]())
	register.Function1x1(describeCity)
}

func describeCity(c city) string { return fmt.Sprintf("%s: %d", c.Name, c.People) }

func ExampleReadRows() {
	dir, err := os.MkdirTemp("", "fileio")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	p, s := beam.NewPipelineWithRoot()
	fileio.Write(s, fileio.WriteConfig{URL: dir, Format: fileio.Parquet}, beam.Create(s, city{"Ulm", 126_000}, city{"Bonn", 336_000}))
	if err := beamx.Run(context.Background(), p); err != nil {
		fmt.Println(err)
		return
	}
	p, s = beam.NewPipelineWithRoot()
	cities, _ := fileio.ReadRows(s, fileio.RowsConfig{Pattern: dir + "/*.parquet"}, reflect.TypeFor[city]())
	fileio.Write(s, fileio.WriteConfig{URL: filepath.Join(dir, "out")}, beam.ParDo(s, describeCity, cities))
	if err := beamx.Run(context.Background(), p); err != nil {
		fmt.Println(err)
		return
	}
	content, err := os.ReadFile(filepath.Join(dir, "out", "part-00000-of-00001.jsonl"))
	fmt.Print(string(content), err)
	// Output:
	// Bonn: 336000
	// Ulm: 126000
	// <nil>
}
