// SPDX-License-Identifier: Apache-2.0

// Package blobtest checks that a place for files is a blob.Store: the suite that each store passes.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

// Run checks a store. Each call of open returns a store at a new, empty place, which the suite closes;
// blob.Open must find the same place by its URL as long as the test runs.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range []struct {
		name string
		run  func(p *place)
	}{
		{"Create", testCreate},
		{"CreateAgain", testCreateAgain},
		{"CreateConflict", testCreateConflict},
		{"CreateEmpty", testCreateEmpty},
		{"CreateBig", testCreateBig},
		{"CreateRefuses", testCreateRefuses},
		{"RaceOfEqual", testRaceOfEqual},
		{"RaceOfDifferent", testRaceOfDifferent},
		{"Spool", testSpool},
		{"Stat", testStat},
		{"Open", testOpen},
		{"OpenChanged", testOpenChanged},
		{"List", testList},
		{"OddKeys", testOddKeys},
		{"ByURL", testByURL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.run(&place{T: t, store: s, dir: t.TempDir()})
		})
	}
}

// NewContent returns content with the given bytes and ID, in a file of dir that is closed with the test.
func NewContent(t *testing.T, dir string, data []byte, id string) blob.Content {
	t.Helper()
	f, err := os.CreateTemp(dir, "content-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return blob.Content{File: f, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), ID: id}
}

// place is a store in a test.
type place struct {
	*testing.T
	store blob.Store
	dir   string // For contents.
}

func (p *place) content(data, id string) blob.Content {
	p.Helper()
	return NewContent(p.T, p.dir, []byte(data), id)
}

func (p *place) create(key, data string) {
	p.Helper()
	existed, err := p.store.Create(p.Context(), key, p.content(data, "id of "+key))
	if existed || err != nil {
		p.Fatalf("Create(%q) = %v, %v, want false, nil", key, existed, err)
	}
}

func (p *place) stat(key string) blob.Object {
	p.Helper()
	o, err := p.store.Stat(p.Context(), key)
	if err != nil {
		p.Fatalf("Stat(%q): %v", key, err)
	}
	return o
}

func (p *place) read(o blob.Object, offset int64) string {
	p.Helper()
	r, err := p.store.Open(p.Context(), o, offset)
	if err != nil {
		p.Fatalf("Open(%q, %d): %v", o.Key, offset, err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		p.Fatalf("read %q from %d: %v", o.Key, offset, err)
	}
	return string(b)
}

func (p *place) want(key, data string) {
	p.Helper()
	if got := p.read(p.stat(key), 0); got != data {
		p.Errorf("%q holds %s, want %s", key, short(got), short(data))
	}
}

func (p *place) absent(key string) {
	p.Helper()
	if o, err := p.store.Stat(p.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		p.Errorf("Stat(%q) = %v, %v, want fs.ErrNotExist", key, o, err)
	}
}

func (p *place) list(prefix string) []string {
	p.Helper()
	keys := []string{}
	for o, err := range p.store.List(p.Context(), prefix) {
		if err != nil {
			p.Fatalf("List(%q): %v", prefix, err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func (p *place) wantList(prefix string, want ...string) {
	p.Helper()
	if diff := cmp.Diff(append([]string{}, want...), p.list(prefix)); diff != "" {
		p.Errorf("List(%q) (-want +got):\n%s", prefix, diff)
	}
}

func short(s string) string {
	if len(s) > 40 {
		return s[:20] + "…" + s[len(s)-20:]
	}
	return s
}

func testCreate(p *place) {
	p.absent("a/b/c.jsonl")
	p.create("a/b/c.jsonl", "content\n")
	p.want("a/b/c.jsonl", "content\n")
	p.wantList("", "a/b/c.jsonl")
}

func testCreateAgain(p *place) {
	p.create("k", "content\n")
	before := p.stat("k")
	for range 2 {
		existed, err := p.store.Create(p.Context(), "k", p.content("content\n", "id of k"))
		if !existed || err != nil {
			p.Errorf("the same Create again = %v, %v, want true, nil", existed, err)
		}
	}
	if diff := cmp.Diff(before, p.stat("k")); diff != "" {
		p.Errorf("the same Create again changed the object (-before +after):\n%s", diff)
	}
	p.want("k", "content\n")
	p.wantList("", "k")
}

func testCreateConflict(p *place) {
	p.create("k", "content\n")
	for name, data := range map[string]string{"shorter": "con", "longer": "content\n and more", "as long": "CONTENT\n", "empty": ""} {
		if _, err := p.store.Create(p.Context(), "k", p.content(data, "id of k")); !errors.Is(err, blob.ErrConflict) {
			p.Errorf("Create over content that is %s: got %v, want ErrConflict", name, err)
		} else if !strings.Contains(err.Error(), "k") {
			p.Errorf("the error %q does not name the object", err)
		} else if keepsID := p.stat("k").ID != ""; errors.Is(err, blob.ErrOtherBytes) != keepsID {
			p.Errorf("Create over content that is %s by the same commit: got %v, want ErrOtherBytes: %v", name, err, keepsID)
		}
	}
	// A store that keeps no ID knows a commit by its content alone.
	existed, err := p.store.Create(p.Context(), "k", p.content("content\n", "another commit"))
	switch keepsID := p.stat("k").ID != ""; {
	case keepsID && !errors.Is(err, blob.ErrConflict):
		p.Errorf("Create of the same content by another commit = %v, %v, want ErrConflict", existed, err)
	case !keepsID && (!existed || err != nil):
		p.Errorf("Create of the same content by another commit = %v, %v, want true, nil", existed, err)
	}
	p.want("k", "content\n")
	p.wantList("", "k")
}

func testCreateEmpty(p *place) {
	p.create("empty", "")
	if o := p.stat("empty"); o.Size != 0 {
		p.Errorf("Size is %d, want 0", o.Size)
	}
	p.want("empty", "")
	if existed, err := p.store.Create(p.Context(), "empty", p.content("", "id of empty")); !existed || err != nil {
		p.Errorf("Create again = %v, %v, want true, nil", existed, err)
	}
}

func testCreateBig(p *place) {
	data := Random(12<<20 + 7)
	c := NewContent(p.T, p.dir, data, "big one")
	existed, err := p.store.Create(p.Context(), "big/one.bin", c)
	if existed || err != nil {
		p.Fatalf("Create = %v, %v, want false, nil", existed, err)
	}
	o := p.stat("big/one.bin")
	if o.Size != int64(len(data)) {
		p.Errorf("Size is %d, want %d", o.Size, len(data))
	}
	for _, offset := range []int64{0, 1, 5 << 20, 8<<20 - 1, int64(len(data)) - 1} {
		if got := p.read(o, offset); got != string(data[offset:]) {
			p.Errorf("from %d: got %d other bytes, want the last %d", offset, len(got), int64(len(data))-offset)
		}
	}
	if existed, err := p.store.Create(p.Context(), "big/one.bin", c); !existed || err != nil {
		p.Errorf("Create again = %v, %v, want true, nil", existed, err)
	}
	data[6<<20]++
	if _, err := p.store.Create(p.Context(), "big/one.bin", NewContent(p.T, p.dir, data, "big one")); !errors.Is(err, blob.ErrConflict) {
		p.Errorf("Create with one other byte: got %v, want ErrConflict", err)
	}
	p.wantList("", "big/one.bin")
}

// Random returns n bytes that are the same each time and do not compress.
func Random(n int) []byte {
	b := make([]byte, n)
	// Read never fails, and always fills b.
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func testCreateRefuses(p *place) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\x00b", "a\nb", "\xff", strings.Repeat("a/", 600) + "a"} {
		if _, err := p.store.Create(p.Context(), key, p.content("x", "id")); err == nil {
			p.Errorf("Create(%q) is no error", key)
		}
	}
	cut := p.content("content\n", "id")
	cut.Size++
	if _, err := p.store.Create(p.Context(), "cut", cut); err == nil {
		p.Error("Create of a file that is shorter than its Size is no error")
	}
	ctx, cancel := context.WithCancel(p.Context())
	cancel()
	if _, err := p.store.Create(ctx, "canceled", p.content("content\n", "id")); err == nil {
		p.Error("Create in a context that has ended is no error")
	}
	p.absent("cut")
	p.absent("canceled")
	p.wantList("")
}

// creators is how many create one object at the same moment.
const creators = 16

func (p *place) race(content func(i int) blob.Content) (created, existed, conflicts int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range creators {
		c := content(i)
		wg.Go(func() {
			<-start
			there, err := p.store.Create(p.Context(), "race/k", c)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, blob.ErrConflict):
				conflicts++
			case err != nil:
				p.Errorf("creator %d: %v", i, err)
			case there:
				existed++
			default:
				created++
			}
		})
	}
	close(start)
	wg.Wait()
	return created, existed, conflicts
}

func testRaceOfEqual(p *place) {
	created, existed, conflicts := p.race(func(int) blob.Content { return p.content("content\n", "one commit") })
	if created != 1 || existed != creators-1 || conflicts != 0 {
		p.Errorf("got %d created, %d existed, %d conflicts, want 1, %d, 0", created, existed, conflicts, creators-1)
	}
	p.want("race/k", "content\n")
	p.wantList("", "race/k")
}

func testRaceOfDifferent(p *place) {
	data := func(i int) string { return strings.Repeat(string(rune('a'+i)), 1000) }
	created, existed, conflicts := p.race(func(i int) blob.Content { return p.content(data(i), "commit "+data(i)[:1]) })
	if created != 1 || existed != 0 || conflicts != creators-1 {
		p.Errorf("got %d created, %d existed, %d conflicts, want 1, 0, %d", created, existed, conflicts, creators-1)
	}
	got := p.read(p.stat("race/k"), 0)
	if len(got) != 1000 || got != strings.Repeat(got[:1], 1000) {
		p.Errorf("the object holds %s, want one of the contents", short(got))
	}
	p.wantList("", "race/k")
}

func testSpool(p *place) {
	for _, key := range []string{"deep/down/here", "here"} {
		sp, err := p.store.Spool(key)
		if err != nil {
			p.Fatalf("Spool(%q): %v", key, err)
		}
		for range 3 {
			if n, err := sp.Write([]byte("line\n")); n != 5 || err != nil {
				p.Fatalf("Write = %d, %v", n, err)
			}
		}
		p.absent(key)
		p.wantList(key)
		c := sp.Content("commit")
		for _, want := range []bool{false, true} {
			existed, err := p.store.Create(p.Context(), key, c)
			if existed != want || err != nil {
				p.Errorf("Create(%q) = %v, %v, want %v, nil", key, existed, err, want)
			}
		}
		got := make([]byte, sp.Size())
		if _, err := c.File.ReadAt(got, 0); err != nil || !bytes.Equal(got, []byte("line\nline\nline\n")) {
			p.Errorf("after Create the spool holds %q, %v", got, err)
		}
		if err := sp.Discard(); err != nil {
			p.Errorf("Discard: %v", err)
		}
		p.want(key, "line\nline\nline\n")
	}
	sp, err := p.store.Spool("never/created")
	if err != nil {
		p.Fatal(err)
	}
	if err := sp.Discard(); err != nil {
		p.Errorf("Discard of an empty spool: %v", err)
	}
	p.wantList("", "deep/down/here", "here")
}

func testStat(p *place) {
	p.create("a", "content\n")
	p.create("b", "other content\n")
	a, b := p.stat("a"), p.stat("b")
	if a.Key != "a" || a.Size != 8 || b.Key != "b" || b.Size != 14 {
		p.Errorf("got %v and %v, want a with 8 bytes and b with 14", a, b)
	}
	if a.Version == "" || a.Version == b.Version || a.Version != p.stat("a").Version {
		p.Errorf("versions %q and %q: want one for each content", a.Version, b.Version)
	}
	sum := sha256.Sum256([]byte("content\n"))
	if a.ID != "" && a.ID != "id of a" || a.SHA256 != "" && a.SHA256 != hex.EncodeToString(sum[:]) || (a.ID == "") != (a.SHA256 == "") {
		p.Errorf("got ID %q and SHA256 %q, want those of the content or neither", a.ID, a.SHA256)
	}
	for o, err := range p.store.List(p.Context(), "a") {
		if err != nil || o.Size != a.Size || o.Version != a.Version {
			p.Errorf("List gives %v, %v, Stat %v", o, err, a)
		}
	}
	p.create("folder/file", "x")
	p.absent("folder")
	p.absent("a/below")
	p.absent("folder/file/below")
}

func testOpen(p *place) {
	p.create("k", "0123456789")
	o := p.stat("k")
	for offset, want := range map[int64]string{0: "0123456789", 4: "456789", 9: "9", 10: ""} {
		if got := p.read(o, offset); got != want {
			p.Errorf("from %d: got %q, want %q", offset, got, want)
		}
	}
	r, err := p.store.Open(p.Context(), o, 0)
	if err != nil {
		p.Fatal(err)
	}
	if err := r.Close(); err != nil {
		p.Errorf("Close of what was not read: %v", err)
	}
}

func testOpenChanged(p *place) {
	p.create("a", "0123456789")
	p.create("b", "9876543210")
	o := p.stat("a")
	o.Version = p.stat("b").Version
	if r, err := p.store.Open(p.Context(), o, 3); err == nil {
		_, err = io.ReadAll(r)
		if err := errors.Join(err, r.Close()); !errors.Is(err, blob.ErrChanged) {
			p.Errorf("read of another version: got %v, want ErrChanged", err)
		}
	} else if !errors.Is(err, blob.ErrChanged) {
		p.Errorf("Open of another version: got %v, want ErrChanged", err)
	}
	o.Key = "gone"
	if r, err := p.store.Open(p.Context(), o, 0); err == nil {
		p.Error("Open of an object that is gone is no error")
		r.Close()
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, blob.ErrChanged) {
		p.Errorf("Open of an object that is gone: got %v, want fs.ErrNotExist or ErrChanged", err)
	}
}

func testList(p *place) {
	p.wantList("")
	p.wantList("nothing/here")
	// A folder's name sorts by the slash after it.
	keys := []string{"a-b", "a.b", "a/b", "a/b-c/d", "a/b0", "a0", "b/c/d/e", "b/c/f", "z"}
	shuffled := slices.Clone(keys)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, k := range shuffled {
		p.create(k, k)
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b-", "b/", "b/c/d/e", "b/c/d/e/", "b/x", "c", "z", "zz"} {
		want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, prefix) })
		p.wantList(prefix, want...)
	}
	var first []string
	for o, err := range p.store.List(p.Context(), "") {
		if err != nil {
			p.Fatal(err)
		}
		if first = append(first, o.Key); len(first) == 2 {
			break
		}
	}
	if diff := cmp.Diff(keys[:2], first); diff != "" {
		p.Errorf("a list that is not read to its end (-want +got):\n%s", diff)
	}
}

func testOddKeys(p *place) {
	keys := []string{
		"a b/c d", "a%20b", "a+b", "date=2018-04-01/hour=13/x.jsonl", "é/ü/日本.jsonl", "q?x=1&y=2", "hash#1", "quote'\"", "star*[1]", "a:b;c,d@e!$", "(1)~`{}|^<>",
		"_complete-20180401T000000Z.json", "%2F..%2F", "...", "..a",
	}
	slices.Sort(keys)
	for _, k := range keys {
		p.create(k, "of "+k)
	}
	for _, k := range keys {
		p.want(k, "of "+k)
		p.wantList(k, k)
	}
	p.wantList("", keys...)
}

func testByURL(p *place) {
	url := p.store.URL()
	if url == "" || strings.HasSuffix(url, "/") {
		p.Fatalf("URL is %q, want one without a slash at the end", url)
	}
	urls := []string{url}
	if !strings.Contains(url, "?") {
		urls = append(urls, url+"/")
	}
	for _, u := range urls {
		other, err := blob.Open(p.Context(), u)
		if err != nil {
			p.Fatal(err)
		}
		if other.URL() != url {
			p.Errorf("the store opened by %s is %s", u, other.URL())
		}
		here := &place{T: p.T, store: other, dir: p.dir}
		if _, err := p.store.Create(p.Context(), "a/k", p.content("content\n", "commit")); err != nil {
			p.Fatal(err)
		}
		here.want("a/k", "content\n")
		if existed, err := other.Create(p.Context(), "a/k", p.content("content\n", "commit")); !existed || err != nil {
			p.Errorf("Create of the same by another process = %v, %v, want true, nil", existed, err)
		}
		if err := other.Close(); err != nil {
			p.Errorf("Close: %v", err)
		}
	}
}
