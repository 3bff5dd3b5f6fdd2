// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/io/fileio"
)

func init() {
	register.Function1x1(paymentOf)
	register.Function1x1(extremeOf)
	for _, t := range []reflect.Type{reflect.TypeFor[payment](), reflect.TypeFor[extreme]()} {
		beam.RegisterType(t)
	}
}

// readBack reads the files of a folder with programs that are not ours, and returns what they say about them.
func readBack(t *testing.T, what, dir string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	here := filepath.Dir(file)
	python, err := exec.Command(filepath.Join(here, "../../scripts/servers/duckdb/fetch")).Output()
	if err != nil {
		message := fmt.Sprintf("no DuckDB (needs python3, and once the network for scripts/servers/duckdb/fetch): %v", err)
		if os.Getenv("HORNBEAM_REQUIRE_SERVICES") == "1" {
			t.Fatal(message)
		}
		t.Skip(message + "\nset HORNBEAM_REQUIRE_SERVICES=1 to make this a failure")
	}
	cmd := exec.Command(strings.TrimSpace(string(python)), filepath.Join(here, "testdata/files.py"), what, dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Log(stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// payment is a transaction with a time and a column that may be null.
type payment struct {
	ID       int64
	At       time.Time
	Customer int32
	Terminal int32
	Cents    int64
	Fraud    bool
	Scenario *int64
}

func paymentOf(tx cards.Transaction) payment {
	p := payment{ID: tx.ID, At: tx.Time(), Customer: int32(tx.Customer), Terminal: int32(tx.Terminal), Cents: tx.Cents, Fraud: tx.Fraud}
	if tx.Scenario != 0 {
		p.Scenario = &tx.Scenario
	}
	return p
}

// summary is what readBack has to say about all cards.
func summary() string {
	var count, cents int64
	hash := sha256.New()
	for tx := range cards.Generate().All() {
		scenario := ""
		if tx.Scenario != 0 {
			scenario = fmt.Sprint(tx.Scenario)
		}
		fmt.Fprintf(hash, "%d,%d,%d,%d,%d,%v,%s\n", tx.ID, tx.Time().UnixMicro(), tx.Customer, tx.Terminal, tx.Cents, tx.Fraud, scenario)
		count++
		cents += tx.Cents
	}
	return fmt.Sprintf("%d %d %x", count, cents, hash.Sum(nil))
}

// All transactions come back from DuckDB and fastavro as they were.
func TestFilesCards(t *testing.T) {
	want := summary()
	if count := "1754155 9407937008 "; !strings.HasPrefix(want, count) {
		t.Fatalf("the cards are %s, want %s", want, count)
	}
	for what, f := range map[string]fileio.Format{"cards-parquet": fileio.Parquet, "cards-avro": fileio.Avro} {
		dir := t.TempDir()
		p, s := beam.NewPipelineWithRoot()
		payments := beam.ParDo(s, paymentOf, cards.Read(s, cards.ReadConfig{}))
		fileio.Write(s, fileio.WriteConfig{URL: dir, Format: f, TargetSize: 4 << 20}, payments)
		start := time.Now()
		ptest.RunAndValidate(t, p)
		t.Logf("%s: written in %v", what, time.Since(start))
		if got := readBack(t, what, dir); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
}

// extreme is a row whose values hide from readers that trust bad statistics.
type extreme struct {
	ID    int64
	Group int64
	F64   float64
	F32   float32
	U64   uint64
	I64   int64
	At    time.Time
	Text  string
}

// extremes are in groups that become row groups.
func extremes() []extreme {
	nan, minus := math.NaN(), math.Copysign(0, -1)
	prefix := strings.Repeat("a", 200)
	rows := []extreme{
		{Group: 0, F64: nan, U64: math.MaxUint64, Text: prefix + "z", At: time.UnixMicro(-1)},
		{Group: 0, F64: 1.5, U64: 1, Text: prefix + "b", At: time.UnixMicro(-1_000_000_000_000_001)},
		{Group: 0, F64: -2, U64: 1 << 63, Text: prefix + "\U0010ffff", At: time.UnixMicro(1)},
		{Group: 1, F64: 0, At: time.UnixMicro(0)},
		{Group: 1, F64: minus, Text: prefix + prefix + "x", At: time.UnixMicro(999_999)},
		{Group: 2, F64: nan, At: time.UnixMicro(-999_999)},
		{Group: 2, F64: nan, At: time.UnixMicro(1 << 50)},
		{Group: 3, F64: math.Inf(1), I64: math.MinInt64, At: time.UnixMicro(-1 << 50)},
		{Group: 3, F64: math.Inf(-1), I64: math.MaxInt64, At: time.UnixMicro(-1)},
		{Group: 4, F64: minus, At: time.UnixMicro(0)},
		{Group: 4, F64: 3, At: time.UnixMicro(0)},
		{Group: 5, F64: -3, At: time.UnixMicro(0)},
		{Group: 5, F64: 0, At: time.UnixMicro(0)},
	}
	for i := range rows {
		rows[i].ID, rows[i].F32 = int64(i), float32(rows[i].F64)
	}
	return rows
}

func extremeOf(i int) extreme { return extremes()[i] }

// No statistics hide a row: filters that DuckDB compares with them find what they find without them.
func TestFilesBounds(t *testing.T) {
	dir := t.TempDir()
	p, s := beam.NewPipelineWithRoot()
	var ids []int
	var micros []string
	for i, e := range extremes() {
		ids = append(ids, i)
		micros = append(micros, fmt.Sprint(e.At.UnixMicro()))
	}
	rows := beam.ParDo(s, extremeOf, beam.CreateList(s, ids))
	fileio.Write(s, fileio.WriteConfig{URL: dir, Format: fileio.Parquet, Fields: []string{"Group"}}, rows)
	ptest.RunAndValidate(t, p)
	if got, want := readBack(t, "bounds", dir), fmt.Sprintf("%d 0 [%s]", 246, strings.Join(micros, ", ")); got != want {
		t.Errorf("filters, how many of them differ, and microseconds:\ngot  %s\nwant %s", got, want)
	}
}
