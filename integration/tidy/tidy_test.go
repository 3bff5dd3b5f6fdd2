// SPDX-License-Identifier: Apache-2.0

// Package tidy checks the rules of the source that a reader relies on: who imports whom, which
// packages are pure, and that ARCHITECTURE.md names what is there.
package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hornbeam-dev/hornbeam/"

const internal = "runner/internal/"

// imports is the table of who may import whom below runner/internal, without tests.
var imports = map[string]string{
	// Leaves.
	"event": "",
	"urn":   "",
	"kv":    "",
	// Data, and what reads it.
	"coder":  "event urn",
	"plan":   "event coder",
	"bundle": "event plan",
	// Pure: they compute, and never act.
	"engine":           "event coder plan bundle kv engine/watermark",
	"engine/watermark": "event",
	"grouping":         "event urn coder plan bundle kv grouping/trigger grouping/window",
	"grouping/trigger": "event plan",
	"grouping/window":  "event plan",
	"planner":          "event urn coder plan",
	"userstate":        "event coder plan bundle kv",
	"view":             "event coder plan bundle kv",
	// The world.
	"store":           "kv",
	"worker":          "plan bundle kv",
	"worker/embedded": "event urn coder plan bundle kv userstate view worker",
	"worker/builtin":  "event plan bundle kv grouping view worker",
	"driver":          "event plan bundle kv engine worker",
	// Tests of many packages; nobody imports these.
	"kv/kvtest":                    "kv",
	"grouping/trigger/triggertest": "plan",
	"sim":                          "event urn coder plan bundle kv engine grouping store view userstate planner",
}

// pure are the packages that depend on nothing but their arguments.
var pure = strings.Fields("event plan bundle coder engine engine/watermark grouping grouping/window grouping/trigger planner userstate view")

// impure are the imports that a pure package may not have.
var impure = strings.Fields("context sync sync/atomic os os/signal os/exec net net/http io/fs log log/slog math/rand math/rand/v2 crypto/rand syscall")

// wrapped are modules that few packages may import: a prefix of the import path, and who may.
var wrapped = map[string]string{
	"github.com/cockroachdb/pebble/":                    "runner/internal/store runner/internal/sim", // sim crashes its file system.
	"github.com/twmb/franz-go/":                         "io/kafkaio fixtures/cmd/fixtures integration/",
	"github.com/aws/":                                   "io/s3io io/kinesisio io/kinesisio/internal/fake integration/",
	"github.com/parquet-go/parquet-go":                  "io/fileio/internal/format",
	"github.com/twmb/avro":                              "io/fileio/internal/format io/kafkaio",
	"cloud.google.com/go/storage":                       "io/gcsio runner/launch integration/",
	"github.com/apache/beam/sdks/v2/go/pkg/":            "runner runner/launch runner/internal/planner runner/internal/worker/embedded transforms/ io/ pipelines/ fixtures/ integration/",
	"google.golang.org/protobuf/":                       "runner runner/launch runner/internal/planner runner/internal/worker/embedded io/kinesisio integration/dataflow/fake",
	"google.golang.org/api/dataflow/":                   "runner/launch integration/dataflow/fake",
	"github.com/apache/beam/sdks/v2/go/pkg/beam/model/": "runner runner/launch runner/internal/planner runner/internal/worker/embedded integration/dataflow/fake",
}

// folders are what the module's root may hold.
var folders = strings.Fields("pipelines transforms runner io fixtures integration scripts .ci .github")

// source is a Go file.
type source struct {
	*ast.File
	name    string // From the root, with slashes.
	pkg     string // Its folder.
	isTest  bool
	content string
	fset    *token.FileSet
}

func (s *source) line(n ast.Node) string {
	return s.name + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

func (s *source) imports() []string {
	var paths []string
	for _, spec := range s.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

const root = "../.."

// sources parses all files of the module.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || name == filepath.Join(root, "out")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, content, parser.ParseComments)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		all = append(all, &source{
			File: file, name: rel, pkg: path.Dir(rel), isTest: strings.HasSuffix(rel, "_test.go"), content: string(content), fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImports(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest {
			continue
		}
		below, isInternal := strings.CutPrefix(s.pkg, internal)
		if isInternal && !known[below] {
			known[below] = true
			if _, ok := imports[below]; !ok {
				t.Errorf("%s is not in the table of imports", s.pkg)
			}
		}
		for _, imported := range s.imports() {
			if ours, ok := strings.CutPrefix(imported, module); ok && !mayImport(s.pkg, ours) {
				t.Errorf("%s imports %s, which the table of imports does not allow", s.name, ours)
			}
			for prefix, who := range wrapped {
				if strings.HasPrefix(imported, prefix) && !listed(who, s.pkg) {
					t.Errorf("%s imports %s, which is for %s", s.name, imported, who)
				}
			}
		}
	}
	for pkg := range imports {
		if !known[pkg] {
			t.Errorf("the table of imports has %s, which is not there", internal+pkg)
		}
	}
}

// mayImport tells whether a package may import another one of the module.
func mayImport(pkg, other string) bool {
	folder, _, _ := strings.Cut(pkg, "/")
	otherFolder, _, _ := strings.Cut(other, "/")
	if below, ok := strings.CutPrefix(pkg, internal); ok {
		return strings.HasPrefix(other, internal) && slices.Contains(strings.Fields(imports[below]), strings.TrimPrefix(other, internal))
	}
	switch folder {
	case "runner": // Package runner imports all below it; launch and the commands import runner.
		return otherFolder == "runner" && (pkg == "runner" || other == "runner")
	case "transforms", "io":
		return otherFolder == folder || pkg == "io/iotest" && other == "runner" // Its suite runs on Hornbeam.
	case "fixtures":
		return otherFolder == "fixtures" || otherFolder == "transforms"
	case "pipelines":
		return otherFolder != "integration" && !strings.HasPrefix(other, internal)
	}
	return folder == "integration"
}

// listed tells whether pkg is one of who, or below one that ends with a slash.
func listed(who, pkg string) bool {
	return slices.ContainsFunc(strings.Fields(who), func(w string) bool {
		return w == pkg || strings.HasSuffix(w, "/") && strings.HasPrefix(pkg, w)
	})
}

func TestPurity(t *testing.T) {
	for _, s := range sources(t) {
		below, ok := strings.CutPrefix(s.pkg, internal)
		if !ok || s.isTest || !slices.Contains(pure, below) {
			continue
		}
		for _, imported := range s.imports() {
			if slices.Contains(impure, imported) {
				t.Errorf("%s is pure and imports %s", s.name, imported)
			}
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: a pure package has no goroutine and no channel", s.line(n))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: a pure package does not read the clock (time.%s)", s.line(n), n.Sel.Name)
				}
			}
			return true
		})
	}
}

// clock are the functions of package time that depend on the world.
var clock = strings.Fields("Now Since Until Sleep After AfterFunc Tick NewTimer NewTicker Local LoadLocation")

// Results of transforms depend on event time and never on when they are computed, or where. What stops
// a job is no result: limit.go gives it a moment, in processing time.
func TestTransformsReadNoClock(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest || !strings.HasPrefix(s.pkg, "transforms/") || s.name == "transforms/dlq/limit.go" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if ok && (x.Name == "time" && slices.Contains(clock, sel.Sel.Name) || x.Name == "timers" && strings.Contains(sel.Sel.Name, "ProcessingTime")) {
				t.Errorf("%s: a transform does not follow the clock of the machine (%s.%s)", s.line(n), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestPackageComments(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		if _, ok := docs[s.pkg]; !ok {
			docs[s.pkg] = nil
		}
		if s.Doc != nil {
			docs[s.pkg] = append(docs[s.pkg], s.name)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments, want one: %v", pkg, len(files), files)
		}
	}
}

var (
	todo   = regexp.MustCompile(`\bTODO\b(.*)`)
	reason = regexp.MustCompile(`(?i)^:? *(when|once|if|as soon as|until|after)\b|#\d+`)
	// local is what a path or host of one machine looks like.
	local = regexp.MustCompile(`/(home|Users|root|work)/[a-z]|/tmp/wt/`)
)

func TestText(t *testing.T) {
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.content, "// SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s does not begin with the license line", s.name)
		}
		if strings.HasPrefix(s.name, "integration/tidy/") {
			continue
		}
		for i, line := range strings.Split(s.content, "\n") {
			if m := todo.FindStringSubmatch(line); m != nil && !reason.MatchString(m[1]) {
				t.Errorf("%s:%d: a TODO says when it will matter (TODO: when …), or names an issue", s.name, i+1)
			}
			if s.isTest && !strings.HasPrefix(s.pkg, "integration/") && strings.Contains(line, "time.Sleep(") {
				t.Errorf("%s:%d: a test does not sleep", s.name, i+1)
			}
			if local.MatchString(line) {
				t.Errorf("%s:%d: a path of one machine: %s", s.name, i+1, line)
			}
		}
	}
}

func TestRoot(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(append(folders, ".git", ".cache", "out"), e.Name()) {
			t.Errorf("folder %s: the root has %v and no other", e.Name(), folders)
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*replace\b|=>`).Match(mod) {
		t.Error("go.mod replaces a module: then nobody can import this one")
	}
}

// mapped is a line of the package map in ARCHITECTURE.md.
var mapped = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

func TestArchitectureMap(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 300 {
		t.Errorf("ARCHITECTURE.md has %d lines, want at most 300", lines)
	}
	_, section, ok := strings.Cut(string(text), "\n## Package map\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no section Package map")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	named := map[string]bool{}
	for _, m := range mapped.FindAllStringSubmatch(section, -1) {
		named[m[1]] = true
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		there[s.pkg] = true
	}
	for pkg := range there {
		if !named[pkg] {
			t.Errorf("package %s is not in the map of ARCHITECTURE.md", pkg)
		}
	}
	for pkg := range named {
		if !there[pkg] {
			t.Errorf("the map of ARCHITECTURE.md has %s, which is not there", pkg)
		}
	}
}

// TestCodesAreConstants: the codes of dead letters are a closed set, so nobody makes one up where it is used.
func TestCodesAreConstants(t *testing.T) {
	isText := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		return ok && lit.Kind == token.STRING
	}
	for _, s := range sources(t) {
		if s.isTest {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			made := false
			switch n := n.(type) {
			case *ast.CallExpr:
				f, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || len(n.Args) == 0 {
					break
				}
				pkg, _ := f.X.(*ast.Ident)
				made = pkg != nil && pkg.Name == "dlq" && (f.Sel.Name == "New" || f.Sel.Name == "Of") && isText(n.Args[0])
			case *ast.KeyValueExpr:
				key, _ := n.Key.(*ast.Ident)
				made = key != nil && key.Name == "Code" && isText(n.Value)
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					field, ok := left.(*ast.SelectorExpr)
					made = made || ok && field.Sel.Name == "Code" && len(n.Rhs) == len(n.Lhs) && isText(n.Rhs[i])
				}
			}
			if made {
				t.Errorf("%s: a code that is a text; name it among the constants of the package", s.line(n))
			}
			return true
		})
	}
}
