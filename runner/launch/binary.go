// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
)

// armMachines are the machine types of Google's that have arm64 processors, by what they begin with.
var armMachines = []string{"t2a-", "c4a-", "n4a-"}

// workerArch is the GOARCH of the workers on a type of machine.
func workerArch(machineType string) string {
	if slices.ContainsFunc(armMachines, func(prefix string) bool { return strings.HasPrefix(machineType, prefix) }) {
		return "arm64"
	}
	return "amd64"
}

// linuxProgram is what is known of a program for linux.
type linuxProgram struct {
	arch     string // GOARCH.
	static   bool   // It needs no shared library.
	stripped bool   // It has neither symbols nor debug information, which makes a third of its size.
}

// readProgram fails for what is no program for linux.
func readProgram(name string) (linuxProgram, error) {
	file, err := elf.Open(name)
	if errors.As(err, new(*elf.FormatError)) || err == io.EOF {
		return linuxProgram{}, errors.New("it is no program for linux")
	}
	if err != nil {
		return linuxProgram{}, err
	}
	defer file.Close()
	p := linuxProgram{arch: file.Machine.String(), static: true, stripped: true}
	switch file.Machine {
	case elf.EM_X86_64:
		p.arch = "amd64"
	case elf.EM_AARCH64:
		p.arch = "arm64"
	}
	for _, segment := range file.Progs {
		p.static = p.static && segment.Type != elf.PT_INTERP
	}
	for _, section := range file.Sections {
		p.stripped = p.stripped && section.Type != elf.SHT_SYMTAB && !strings.HasPrefix(section.Name, ".debug_") && !strings.HasPrefix(section.Name, ".zdebug_")
	}
	return p, nil
}

// workerBinary returns the program for workers with linux and an arch: what --worker_binary names,
// or else this program if it is fit, or else a new build of it. remove deletes what was built.
func workerBinary(ctx context.Context, arch string, w io.Writer) (name string, remove func(), err error) {
	keep := func() {}
	if given := *jobopts.WorkerBinary; given != "" {
		return given, keep, checkBinary(given, arch, w)
	}
	self, err := os.Executable()
	if err == nil {
		if p, err := readProgram(self); err == nil && p == (linuxProgram{arch: arch, static: true, stripped: true}) {
			return self, keep, nil
		}
	}
	source, err := mainPackage()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "hornbeam-worker-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	name = filepath.Join(dir, "worker")
	fmt.Fprintf(w, "Building the worker, linux/%s, from %s\n", arch, source.path)
	if err := source.build(ctx, arch, name); err != nil {
		remove()
		return "", nil, err
	}
	return name, remove, nil
}

// checkBinary refuses a worker that could not start, and warns of one that may not.
func checkBinary(name, arch string, w io.Writer) error {
	p, err := readProgram(name)
	if err != nil {
		return fmt.Errorf("--worker_binary=%s: %w", name, err)
	}
	if p.arch != arch {
		return fmt.Errorf("--worker_binary=%s is for %s, and the workers' machines are %s: build it with GOARCH=%[3]s, or choose another --worker_machine_type", name, p.arch, arch)
	}
	if !p.static {
		fmt.Fprintf(w, "--worker_binary=%s needs shared libraries, which the workers' container may not have: CGO_ENABLED=0 builds one that does not\n", name)
	}
	if info, err := buildinfo.ReadFile(name); err == nil {
		if own, ok := debug.ReadBuildInfo(); ok && own.Path != "" && info.Path != "" && own.Path != info.Path {
			fmt.Fprintf(w, "--worker_binary=%s is of package %s, and this program of %s: the workers need the same functions\n", name, info.Path, own.Path)
		}
	}
	return nil
}

// sourcePackage is a package that can be built.
type sourcePackage struct {
	path string // Import path, or "." for the folder.
	dir  string // Where to build it; empty is the current folder.
	tags string // Build tags, separated by commas.
}

// loose is the import path of a program that was built from files and not from a package.
const loose = "command-line-arguments"

// mainPackage is the package of this program.
func mainPackage() (sourcePackage, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Path == "" {
		return sourcePackage{}, errors.New("this program does not know its package, so its worker cannot be built: build one " + byHand("amd64", "PACKAGE"))
	}
	p := sourcePackage{path: info.Path, dir: mainFolder()}
	if p.path == loose {
		p.path = "."
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			p.tags = s.Value
		}
	}
	return p, nil
}

// mainFolder is where the source of the main function is, if that is on this machine. The go
// command has to run in its module.
func mainFolder() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	for {
		frame, more := frames.Next()
		if frame.Function == "main.main" {
			dir := filepath.Dir(frame.File)
			if _, err := os.Stat(dir); err == nil && filepath.IsAbs(dir) {
				return dir
			}
			return ""
		}
		if !more {
			return ""
		}
	}
}

// build builds the package for linux: static, so that it runs in any container, and stripped.
func (p sourcePackage) build(ctx context.Context, arch, output string) error {
	gotool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("the workers need a linux/%s program of this pipeline. This one is not fit, or not static and stripped, "+
			"and there is no Go toolchain here to build another: build it elsewhere %s", arch, byHand(arch, p.path))
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", output}
	if p.tags != "" {
		args = append(args, "-tags="+p.tags)
	}
	cmd := exec.CommandContext(ctx, gotool, append(args, p.path)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the worker cannot be built here (%w): run this in the module of %s, or build it elsewhere %s\n%s",
			err, p.path, byHand(arch, p.path), strings.TrimSpace(string(out)))
	}
	return nil
}

// byHand says how to build a worker and name it.
func byHand(arch, pkg string) string {
	return fmt.Sprintf("and name it with --worker_binary:\n  CGO_ENABLED=0 GOOS=linux GOARCH=%s go build -trimpath -ldflags='-s -w' -o worker %s", arch, pkg)
}
