// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fails checks that a job ends with a code and a message that says all of that, and without a trace
// of goroutines.
func fails(t *testing.T, j Job, code int, says ...string) {
	t.Helper()
	p := must[*Process](t)(j.Start())
	ended := must[Ended](t)(p.Signal(long, syscall.SIGKILL))
	if ended.Code != code {
		t.Errorf("code: got %d after %v, want %d", ended.Code, ended.After, code)
	}
	for _, text := range says {
		if !strings.Contains(ended.Stderr, text) {
			t.Errorf("got %q, want a text with %q", ended.Stderr, text)
		}
	}
	if strings.Contains(ended.Stderr, "goroutine ") {
		t.Errorf("the user sees a trace:\n%s", ended.Stderr)
	}
	t.Logf("after %v: %.400s", ended.After.Round(time.Millisecond), strings.TrimSpace(ended.Stderr))
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct {
		arg  string
		code int
		says string
	}{
		{"--no_such_flag", 2, "no_such_flag"},
		{"word", 2, `unexpected argument "word"`},
		{"--days=many", 2, "days"},
		{"--memory_budget=lots", 1, "such as 400MiB"},
		{"--memory_budget=1MiB", 1, "at least 64 MiB"},
		{"--key_groups=99999", 1, "key groups"},
		{"--commit_interval=-1s", 1, "positive"},
		{"--job_name=a/b", 1, "letters, digits"},
		{"--runner=nowhere", 1, "nowhere"},
		{"--input=ftp://x/y", 1, "kafka://"},
	} {
		t.Run(c.arg, func(t *testing.T) { fails(t, job(t, c.arg), c.code, c.says) })
	}
}

func TestUnreachableBroker(t *testing.T) {
	fails(t, job(t, "--input=kafka://127.0.0.1:1/cards?to=latest", "--attempts=1"), 1, "127.0.0.1:1")
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	j := job(t)
	if err := os.WriteFile(j.Output(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, j, 1, "output")
}

func TestPanicNamesTheElement(t *testing.T) {
	fails(t, job(t, "--panic_at=5000"), 1, "transaction 5000 is not liked")
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	j := job(t)
	if err := os.MkdirAll(j.State(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(j.State(), "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, j, 1, "thesis.txt", "not a state directory")
}

// TestDamagedDirectoryIsRefused damages each file of a state directory in the middle. It is refused
// with a message, or, if the bytes do not matter any more, the result is the right one.
func TestDamagedDirectoryIsRefused(t *testing.T) {
	j := job(t, "--days=1", "--rate=4000")
	interrupt(t, j, 1500*time.Millisecond)
	want := undisturbed(t, j)
	copies := work(t)
	refused := 0
	for _, path := range must[[]string](t)(filepath.Glob(filepath.Join(j.State(), "*", "*"))) {
		name := must[string](t)(filepath.Rel(j.State(), path))
		copied := j
		copied.Dir = filepath.Join(copies, filepath.Base(name))
		if err := os.CopyFS(copied.Dir, os.DirFS(j.Dir)); err != nil {
			t.Fatal(err)
		}
		damage(t, filepath.Join(copied.State(), name))
		ended := must[Ended](t)(must[*Process](t)(copied.Start()).Signal(long, syscall.SIGKILL))
		message := strings.TrimSpace(ended.Stderr)
		switch {
		case ended.Code == 1 && !strings.Contains(message, "goroutine "):
			refused++
		case ended.Code == 0:
			if diff := Compare(must[Written](t)(copied.Written(ended)), want); diff != "" {
				t.Errorf("%s damaged: %s", name, diff)
			}
		default:
			t.Errorf("%s damaged: code %d", name, ended.Code)
		}
		t.Logf("%s: code %d: %.300s", name, ended.Code, message)
		if err := os.RemoveAll(copied.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// undisturbed is the output of a job in another directory.
func undisturbed(t *testing.T, j Job) Written {
	t.Helper()
	j.Dir = work(t)
	return must[Written](t)(j.Written(must[Ended](t)(j.Run())))
}

// damage turns over the bytes in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	content := must[[]byte](t)(os.ReadFile(path))
	for i := len(content) / 2; i < len(content) && i < len(content)/2+16; i++ {
		content[i] ^= 0xff
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	j := job(t, "--days=1", "--rate=2000")
	first := must[*Process](t)(j.Start())
	waitFor(t, filepath.Join(j.State(), "FORMAT"))
	fails(t, j, 1, "another process")
	if ended := must[Ended](t)(first.Wait()); ended.Code != 0 {
		t.Errorf("the first process ended with code %d:\n%s", ended.Code, ended.Stderr)
	}
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not appear", path)
		}
	}
}

// TestInterruptedJobContinues stops a job as Ctrl-C does, and as a service manager does.
func TestInterruptedJobContinues(t *testing.T) {
	j := job(t, "--days=1", "--rate=4000")
	want := undisturbed(t, j)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ended := must[Ended](t)(j.Kill(time.Second, sig))
		if ended.Code != 130 || !strings.Contains(ended.Stderr, "the same command continues") {
			t.Errorf("after %v: got code %d and %q", sig, ended.Code, ended.Stderr)
		}
	}
	last := must[Ended](t)(j.Run())
	if !strings.Contains(last.Stderr, "continues") {
		t.Errorf("got %q, want a job that continues", last.Stderr)
	}
	if diff := Compare(must[Written](t)(j.Written(last)), want); diff != "" {
		t.Errorf("the output differs: %s", diff)
	}
}

// TestMalformedLinesAreDeadLetters gives lines that are no transactions.
func TestMalformedLinesAreDeadLetters(t *testing.T) {
	j := job(t)
	lines := filepath.Join(j.Dir, "in.csv")
	good := "0,31,596,3156,57.16,0,0\n"
	if err := os.WriteFile(lines, []byte("\n,,,\nnot a line\n"+good+"\xff\xfe\n1,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j.Args = []string{"--input=lines:" + lines}
	ended := must[Ended](t)(j.Run())
	var totals struct{ In int }
	if err := json.Unmarshal([]byte(ended.Stdout), &totals); err != nil || ended.Code != 0 || totals.In != 1 {
		t.Fatalf("got code %d, %q, %v:\n%s", ended.Code, ended.Stdout, err, ended.Stderr)
	}
	dead := 0
	for _, line := range must[Written](t)(j.Written(ended)) {
		if strings.HasPrefix(line, "dead-") {
			dead++
		}
	}
	if dead != 5 {
		t.Errorf("got %d dead letters, want 5", dead)
	}
}

// TestFullDisk lets the state directory's file system run full. The same command continues when
// there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system: run this test as root")
	}
	j := job(t, "--days=2")
	want := undisturbed(t, j)
	mount := must[string](t)(filepath.Abs(j.State()))
	if err := os.MkdirAll(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs: %v, %s", err, out)
	}
	t.Cleanup(func() { syscall.Unmount(mount, syscall.MNT_DETACH) })
	fails(t, j, 1, "the disk is full", "run the same command again")
	if out, err := exec.Command("mount", "-o", "remount,size=500m", mount).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, out))
	}
	last := must[Ended](t)(must[*Process](t)(j.Start()).Signal(long, syscall.SIGKILL))
	if last.Code != 0 {
		t.Fatalf("with room: code %d:\n%s", last.Code, last.Stderr)
	}
	if diff := Compare(must[Written](t)(j.Written(last)), want); diff != "" {
		t.Errorf("the output differs: %s", diff)
	}
}
