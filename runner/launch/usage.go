// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hornbeam-dev/hornbeam/runner"
)

// commonFlags are flags that most people need, on any runner.
var commonFlags = []string{"runner", "job_name", "parallelism", "json"}

// hornbeamFlags are the flags that only Hornbeam reads.
var hornbeamFlags = []string{"state_dir", "memory_budget", "key_groups", "commit_interval", "attempts", "on_failing_element"}

func init() { flag.Bool("help_all", false, "Show the flags of all Beam runners too.") }

// runnerHelp stands in place of what Beam says of flags that Hornbeam reads as well.
var runnerHelp = map[string]string{
	"runner": "Where to run: hornbeam, prism, direct, flink, dataflow or universal (default hornbeam).",
	"job_name": "Name of the job: letters, digits, '-' and '_'. Jobs with different names run side by side.\n" +
		"Default: the name of the pipeline.",
	"parallelism": "Number of bundles that are processed at once (default: two for each core).",
	"endpoint":    "HOST:PORT of the job server. Example: --endpoint=localhost:8099",
	"environment_type": "How workers start: PROCESS, where the runner starts this program on its machines (default);\n" +
		"LOOPBACK, in this process, for trying; EXTERNAL, a pool; or DOCKER, an image.",
	"environment_config": "PROCESS: JSON with command and env, instead of --worker_path. EXTERNAL: HOST:PORT. DOCKER: the image.",
	"async":              "Do not wait for the end of the job.",
}

// usage prints the whole help for --help, and after a mistake only how to get it.
func usage(w io.Writer, p Program) {
	if !asked() {
		fmt.Fprintf(w, "Run %s --help to see its flags.\n", p.Name)
		return
	}
	fmt.Fprintf(w, "%s\n\nFlags of %s:\n", strings.TrimSpace(p.Usage), p.Name)
	for _, name := range p.Flags {
		printFlag(w, name)
	}
	fmt.Fprintf(w, "\nFlags of all runners:\n")
	for _, name := range commonFlags {
		printFlag(w, name)
	}
	fmt.Fprintf(w, "\nFlags for --runner=%s, which is the default:\n", runner.Name)
	for _, name := range hornbeamFlags {
		printFlag(w, name)
	}
	for _, group := range remoteFlags() {
		fmt.Fprintf(w, "\nFlags for --runner=%s:\n", group.runners)
		for _, name := range group.flags {
			printFlag(w, name)
		}
		fmt.Fprintf(w, "\nExamples:\n%s", strings.ReplaceAll(group.examples, "PROGRAM", p.Name))
	}
	if !slices.Contains(os.Args[1:], "--help_all") && !slices.Contains(os.Args[1:], "-help_all") {
		fmt.Fprintf(w, "\nAdd --help_all for the flags of Beam's other runners.\n")
		return
	}
	fmt.Fprintf(w, "\nFlags of Beam:\n")
	flag.VisitAll(func(f *flag.Flag) {
		shown := slices.ContainsFunc([][]string{p.Flags, commonFlags, hornbeamFlags, allRemoteFlags()},
			func(names []string) bool { return slices.Contains(names, f.Name) })
		if !shown {
			printFlag(w, f.Name)
		}
	})
}

// remoteGroup are the flags of runners that have the same.
type remoteGroup struct {
	runners  string
	flags    []string
	examples string // With PROGRAM for the name of the pipeline.
}

// remoteFlags are the flags of remotes, by the names that people use.
func remoteFlags() []remoteGroup {
	return []remoteGroup{
		{"flink and universal", portableFlags, `  PROGRAM --runner=flink --endpoint=localhost:8099 --environment_type=LOOPBACK
  PROGRAM --runner=flink --endpoint=flink:8099 --worker_path=/opt/hornbeam/PROGRAM --async \
      --runner_option=checkpointing_interval=5000
`},
		{dataflowName, dataflowFlags, `  PROGRAM --runner=dataflow --project=PROJECT --region=europe-west1 --staging_location=gs://BUCKET/staging \
      --input='kafka://broker:9092/cards' --output=gs://BUCKET/results
`},
	}
}

// allRemoteFlags are the flags of all remotes.
func allRemoteFlags() []string {
	var names []string
	for _, group := range remoteFlags() {
		names = append(names, group.flags...)
	}
	return names
}

func asked() bool {
	for _, arg := range os.Args[1:] {
		switch arg {
		case "-h", "--h", "-help", "--help":
			return true
		}
	}
	return false
}

func printFlag(w io.Writer, name string) {
	f := flag.Lookup(name)
	if f == nil {
		return
	}
	text, ours := runnerHelp[name]
	if !ours {
		text, ours = dataflowHelp[name]
	}
	if !ours {
		text = f.Usage
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "0s" && f.DefValue != "false" && !strings.Contains(text, "efault") {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
	}
	fmt.Fprintf(w, "  --%s\n        %s\n", name, strings.ReplaceAll(text, "\n", "\n        "))
}
