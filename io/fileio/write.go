// SPDX-License-Identifier: Apache-2.0

package fileio

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// Write is TryWrite for pipelines that are known to be right: it panics with the error.
func Write(s beam.Scope, cfg WriteConfig, col beam.PCollection) Written {
	written, err := TryWrite(s, cfg, col)
	if err != nil {
		panic(err)
	}
	return written
}

// TryWrite writes a PCollection<string>, PCollection<[]byte>, PCollection<KV<string, []byte>> or a PCollection of a
// registered struct as files, some for each window, pane, folder and shard. Strings and bytes are records as they
// are, for JSONLines and CSV. The shard follows from the row, or from the key of a KV, which is not written. What
// cannot be written is a dead letter. A file is named
//
//	<folders>/<prefix>-<window start>-<window end>[-pane<N>]-<shard>-of-<shards>[-part<N>]<extension>
//
// without times in the global window, without the pane if it is its window's only one, and without the part if
// TargetSize is 0. The error names everything that is wrong with cfg.
func TryWrite(s beam.Scope, cfg WriteConfig, col beam.PCollection) (Written, error) {
	if !s.IsValid() || !col.IsValid() {
		return Written{}, errors.New("fileio.Write: the scope or the input is no part of a pipeline")
	}
	s = s.Scope("fileio.Write")
	written, err := tryWrite(s, cfg.withDefaults(), col)
	if err != nil {
		return Written{}, fmt.Errorf("fileio.Write: %w", err)
	}
	return written, nil
}

func tryWrite(s beam.Scope, cfg WriteConfig, col beam.PCollection) (Written, error) {
	t, keyed, err := elementType(col.Type())
	if err != nil {
		return Written{}, err
	}
	_, err = newOutline(cfg, t)
	if err := errors.Join(append(cfg.problems(col.WindowingStrategy()), err, tryOpen(cfg.URL))...); err != nil {
		return Written{}, err
	}
	encoder := rows{WriteConfig: cfg, Type: beam.EncodedType{T: t}}
	var fn any = &elementFn{Rows: encoder}
	if keyed {
		fn = &keyedFn{Rows: encoder}
	}
	encoded, dead := beam.ParDo2(s, fn, col)
	windowed, err := inWindows(s, cfg, encoded)
	if err != nil {
		return Written{}, err
	}
	where := place{URL: cfg.URL, JobID: cfg.JobID}
	files := beam.ParDo(s, &filesFn{Place: where, WriteConfig: cfg, Type: encoder.Type}, beam.GroupByKey(s, windowed))
	if cfg.Complete {
		if err := writeManifests(s, cfg, files); err != nil {
			return Written{}, err
		}
	}
	return Written{Files: files, Dead: dead}, nil
}

// elementType is the type of what is written, and whether it has a key beside it.
func elementType(t beam.FullType) (elements reflect.Type, keyed bool, err error) {
	text, bytes := reflect.TypeFor[string](), reflect.TypeFor[[]byte]()
	if typex.IsKV(t) && t.Components()[0].Type() == text && t.Components()[1].Type() == bytes {
		return bytes, true, nil
	}
	elements = t.Type()
	if elements == text || elements == bytes {
		return elements, false, nil // Bytes have components for Beam, which are bytes.
	}
	if len(t.Components()) > 0 || elements.Kind() != reflect.Struct {
		return nil, false, fmt.Errorf("the input is %v: want string, []byte, KV<string, []byte> or a struct", t)
	}
	return elements, false, nil
}

func tryOpen(url string) error {
	if url == "" {
		return nil // Which has been told.
	}
	store, err := blob.Open(context.Background(), url)
	if err != nil {
		return err
	}
	return store.Close()
}

// Claim makes the place at a URL that of the job with the given id (see blob.Claim). Write does it in each worker;
// done at submission, it refuses a place before the job begins.
func Claim(ctx context.Context, url, jobID string) error {
	store, err := blob.Open(ctx, url)
	if err != nil {
		return fmt.Errorf("fileio: %w", err)
	}
	if err := errors.Join(blob.Claim(ctx, store, jobID), store.Close()); err != nil {
		return fmt.Errorf("fileio: %w", err)
	}
	return nil
}
