// SPDX-License-Identifier: Apache-2.0

package format

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// python runs a script with an interpreter that has duckdb and fastavro.
func python(t *testing.T, dir, script string) {
	t.Helper()
	interpreter := os.Getenv("HORNBEAM_DUCKDB_PYTHON")
	if interpreter == "" {
		t.Skip("set HORNBEAM_DUCKDB_PYTHON to what scripts/servers/duckdb/fetch prints")
	}
	cmd := exec.Command(interpreter, "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Files of other programs are read, in every compression and version of pages that they have. What our own files are
// for them is tested in integration/connectors.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	python(t, dir, `
import duckdb, fastavro, datetime
con = duckdb.connect()
sql = """select i::bigint as "N", i::int as "I32", (i%200)::utinyint as "U8", i/3.0::double as "F", (i/4)::float as "F32", 'text '||(i%10) as "Text", case when i%3=0 then null else i end as "Maybe",
 make_timestamptz(i*1234567-1000000000000) as "Time", [i, null, i+1] as "List", [[i::varchar],[]] as "Lists", map {'a': i, 'b': null} as "Map", {'a': i, 'b': 'x'} as "Struct", [{'a': i, 'b': null}] as "Structs", encode('b'||i) as "Bytes", i%2=0 as "Bool", 1.5::decimal(10,2) as "Dec", date '2020-01-01' as "Date"
 from range(5000) t(i)"""
for c in ["snappy", "gzip", "zstd", "uncompressed", "brotli"]:
    con.execute(f"copy ({sql}) to 'duckdb.{c}.parquet' (format parquet, codec '{c}', row_group_size 2048)")
con.execute(f"copy ({sql}) to 'duckdb.v2.parquet' (format parquet, parquet_version v2, row_group_size 2048)")
try:
    import pyarrow.parquet as pq
    t = con.sql(sql).to_arrow_table()
    for c in ["snappy", "none"]:
        for v in ["1.0", "2.0"]:
            for d in [True, False]:
                pq.write_table(t, f"pyarrow.{c}.{v}.{d}.parquet", compression=c, data_page_version=v, row_group_size=2048, write_page_index=d, use_dictionary=d, data_page_size=4096)
    pq.write_table(t, "pyarrow.int96.parquet", use_deprecated_int96_timestamps=True)
except ImportError:
    pass
schema = {"type":"record","name":"x","namespace":"a.b","fields":[
 {"name":"Later","type":["null",{"type":"record","name":"Rec","fields":[{"name":"next","type":["null","Rec"]},{"name":"e","type":{"type":"enum","name":"E","symbols":["P","Q"]}},{"name":"f","type":{"type":"fixed","name":"F4","size":4}}]}]},
 {"name":"N","type":"long"},{"name":"I32","type":["null","int"]},{"name":"U8","type":"int"},{"name":"F","type":"double"},{"name":"F32","type":"float"},{"name":"Text","type":"string"},{"name":"Maybe","type":["long","null"]},
 {"name":"Time","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"List","type":{"type":"array","items":["null","long"]}},
 {"name":"Lists","type":{"type":"array","items":{"type":"array","items":"string"}}},{"name":"Map","type":{"type":"map","values":["null","long"]}},
 {"name":"Struct","type":{"type":"record","name":"S","fields":[{"name":"b","type":["null","string"]},{"name":"a","type":"long"}]}},
 {"name":"Structs","type":{"type":"array","items":"S"}},{"name":"Bytes","type":"bytes"},{"name":"Bool","type":"boolean"},{"name":"Again","type":["null","Rec"]}]}
rec = {"next":{"next":None,"e":"Q","f":b"1234"},"e":"P","f":b"abcd"}
rows = [dict(Later=rec, Again=rec, N=i, I32=i, U8=i%200, F=i/3, F32=i/4, Text=f"text {i%10}", Maybe=None if i%3==0 else i, Time=datetime.datetime(1970,1,1,tzinfo=datetime.timezone.utc)+datetime.timedelta(milliseconds=i*1234-10**9),
  List=[i,None,i+1], Lists=[[str(i)],[]], Map={"a":i,"b":None}, Struct=dict(a=i,b="x"), Structs=[dict(a=i,b=None)], Bytes=b"b%d"%i, Bool=i%2==0) for i in range(5000)]
for c in ["null","deflate","snappy","zstandard"]:
    with open(f"fastavro.{c}.avro","wb") as f: fastavro.writer(f, schema, rows, codec=c)
`)
	type inner struct {
		A int64   `json:"a"`
		B *string `json:"b"`
	}
	type row struct {
		N       int64
		I32     int32
		U8      uint8
		F       float64
		F32     float32
		Text    string
		Maybe   *int64
		Time    time.Time
		List    []*int64
		Lists   [][]string
		Map     map[string]*int64
		Struct  inner
		Structs []inner
		Bytes   []byte
		Bool    bool
	}
	want := func(i int64, f Format) row {
		r := row{N: i, I32: int32(i), U8: uint8(i % 200), F: float64(i) / 3, F32: float32(i) / 4, Text: fmt.Sprint("text ", i%10), Time: time.UnixMicro(i*1234567 - 1e12).UTC(),
			List: []*int64{&i, nil, ptr(i + 1)}, Lists: [][]string{{fmt.Sprint(i)}, {}}, Map: map[string]*int64{"a": &i, "b": nil}, Struct: inner{i, ptr("x")}, Structs: []inner{{i, nil}},
			Bytes: fmt.Append(nil, "b", i), Bool: i%2 == 0}
		if f == Avro {
			r.Time = time.UnixMilli(i*1234 - 1e9).UTC()
		}
		if i%3 != 0 {
			r.Maybe = &i
		}
		return r
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		f := Avro
		if filepath.Ext(name) == ".parquet" {
			f = Parquet
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := elements[row](f, content)
		if err != nil || len(got) != 5000 {
			t.Errorf("%s: %d rows, %v", filepath.Base(name), len(got), err)
			continue
		}
		for i, g := range got {
			w := want(int64(i), f)
			if diff := cmp.Diff(w, g, equal); diff != "" {
				t.Errorf("%s: row %d\n%s", filepath.Base(name), i, diff)
				break
			}
		}
		r, err := NewReader(f, bytes.NewReader(content), int64(len(content)), reflect.TypeFor[row]())
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{4999, 2048, 2047, 2049, 1, 4000, 4096} {
			if err := r.SeekToRow(at); err != nil {
				t.Fatal(err)
			}
			g, err := r.Read()
			if err != nil {
				t.Fatalf("%s: row %d: %v", filepath.Base(name), at, err)
			}
			if diff := cmp.Diff(want(at, f), g, equal); diff != "" {
				t.Errorf("%s: row %d\n%s", filepath.Base(name), at, diff)
			}
		}
		if f == Avro {
			continue
		}
		if err := readError[struct{ Dec float64 }](f, content); err == nil {
			t.Errorf("%s: a decimal is a float64", filepath.Base(name))
		}
		if err := readError[struct{ Date int32 }](f, content); err == nil {
			t.Errorf("%s: a date is a number", filepath.Base(name))
		}
	}
}
