// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/hornbeam-dev/hornbeam/io/blob"
)

func TestMetadata(t *testing.T) {
	c := blob.Content{ID: "job/ö 1%", SHA256: "abc"}
	m := Metadata(c)
	for _, value := range m {
		for _, r := range value {
			if r < ' ' || r > '~' {
				t.Errorf("got %q, which is no header", value)
			}
		}
	}
	if id, sum := Written(m); id != c.ID || sum != c.SHA256 {
		t.Errorf("got %q, %q back, want %q, %q", id, sum, c.ID, c.SHA256)
	}
	if id, sum := Written(map[string]string{"other": "x"}); id != "" || sum != "" {
		t.Errorf("got %q, %q of another's object, want nothing", id, sum)
	}
}

// Which object is the content, and whose it is if it is not.
func TestIs(t *testing.T) {
	c := blob.Content{ID: "commit 1", SHA256: "abc", Size: 3}
	down := errors.New("down")
	tests := []struct {
		name   string
		object blob.Object
		err    error // Of Stat.
		want   bool
		fails  error
		other  bool // Of bytes of the same commit.
	}{
		{"the content", blob.Object{ID: "commit 1", SHA256: "abc", Size: 3}, nil, true, nil, false},
		{"nothing", blob.Object{}, fs.ErrNotExist, false, nil, false},
		{"no answer", blob.Object{}, down, false, down, false},
		{"of another commit", blob.Object{ID: "commit 2", SHA256: "abc", Size: 3}, nil, false, blob.ErrConflict, false},
		{"of another program", blob.Object{Size: 3}, nil, false, blob.ErrConflict, false},
		{"other bytes", blob.Object{ID: "commit 1", SHA256: "abd", Size: 3}, nil, false, blob.ErrConflict, true},
		{"fewer bytes", blob.Object{ID: "commit 1", SHA256: "abc", Size: 2}, nil, false, blob.ErrConflict, true},
	}
	for _, test := range tests {
		got, err := Is(c, test.object, test.err)
		if got != test.want || !errors.Is(err, test.fails) || errors.Is(err, blob.ErrOtherBytes) != test.other {
			t.Errorf("%s: got %v, %v, want %v, %v, other bytes: %v", test.name, got, err, test.want, test.fails, test.other)
		}
	}
}
