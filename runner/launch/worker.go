// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
)

// workerVariable, if it is not empty, makes the program a worker.
const workerVariable = "HORNBEAM_WORKER"

// provisionEndpoint and what else a runner passes to a worker that it starts. Beam registers id and
// semi_persist_dir.
var provisionEndpoint = flag.String("provision_endpoint", "", "Set by a runner that starts this program as a worker.")

func init() {
	flag.String("artifact_endpoint", "", "Set by a runner that starts this program as a worker. It is not used: nothing is fetched.")
}

// work is the life of a worker: it asks the runner where its services are, and runs bundles until
// the runner closes the connection or ends the process. It downloads nothing and has no children,
// so nothing is left behind when it ends.
func work(stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func serve(ctx context.Context) error {
	if *provisionEndpoint == "" {
		return fmt.Errorf("%s is set, so this is a worker, and --provision_endpoint is missing; a runner passes it. To submit a pipeline, unset %[1]s", workerVariable)
	}
	id := strings.Trim(flag.Lookup("id").Value.String(), "'") // Prism passes quotes as well.
	ctx = grpcx.WriteWorkerID(ctx, id)
	info, err := tools.ProvisionInfo(ctx, *provisionEndpoint)
	if err != nil {
		return fmt.Errorf("ask %s for the services of the runner: %w", *provisionEndpoint, err)
	}
	text, err := tools.ProtoToJSON(info.GetPipelineOptions())
	if err != nil {
		return fmt.Errorf("decode the pipeline's options: %w", err)
	}
	var options struct {
		Go runtime.RawOptions `json:"beam:option:go_options:v1"` // The others are the runner's.
	}
	if err := json.Unmarshal([]byte(text), &options); err != nil {
		return fmt.Errorf("decode the pipeline's options: %w", err)
	}
	runtime.GlobalOptions.Import(options.Go)
	beam.Init()
	return harness.MainWithOptions(ctx, info.GetLoggingEndpoint().GetUrl(), info.GetControlEndpoint().GetUrl(), harness.Options{
		RunnerCapabilities: info.GetRunnerCapabilities(),
		StatusEndpoint:     info.GetStatusEndpoint().GetUrl(),
	})
}
