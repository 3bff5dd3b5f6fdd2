// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/storage"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/gcpopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/gcsx"
	df "google.golang.org/api/dataflow/v1b3"
)

// dataflowRemote is Google Cloud Dataflow, through Beam's own client for it. What that client
// leaves open is done here: all mistakes in flags are told at once and before anything is sent, the
// worker is a small linux program, no flag travels but the pipeline's, and a job that is not waited
// for any longer has a name and a way to end it.
var dataflowRemote = &remote{flags: dataflowFlags, limits: Limits{NoFiles: true}, configure: configureDataflow, run: runDataflow}

// dataflowName is the runner's name, as Beam registers it.
const dataflowName = "dataflow"

// dataflowFlags are the flags that --help shows for Dataflow. Beam registers them, and reads more.
var dataflowFlags = []string{
	"project", "region", "staging_location", "temp_location", "async", "dry_run", "template_location",
	"update", "transform_name_mapping", "labels", "worker_machine_type", "num_workers", "max_num_workers",
	"autoscaling_algorithm", "disk_size_gb", "service_account_email", "network", "subnetwork",
	"no_use_public_ips", "dataflow_service_options", "experiments", "sdk_container_image", "worker_binary",
}

// dataflowHelp stands in place of what Beam says of flags of Dataflow.
var dataflowHelp = map[string]string{
	"project":          "ID of the Google Cloud project (default: that of the credentials).",
	"region":           "Region of the job, such as europe-west3 (default: $CLOUDSDK_COMPUTE_REGION, or what gcloud is set to).",
	"staging_location": "Where the worker and the pipeline are put for Dataflow: gs://BUCKET/PATH. The bucket has to be there.",
	"temp_location":    "Where Dataflow keeps what is temporary: gs://BUCKET/PATH (default: tmp below --staging_location).",
	"async":            "Submit the job and do not wait for its end.",
	"dry_run":          "Print the job and send nothing.",
	"template_location": "Write the job as a template to this object, gs://BUCKET/PATH, and do not run it. It needs the staged\n" +
		"worker, so keep what is below --staging_location.",
	"update": "Replace the streaming job that has this --job_name and runs, and take over its state.",
	"transform_name_mapping": "With --update: old names of transforms and their new ones, as JSON.\n" +
		"Example: --transform_name_mapping='{\"fraud.Detect\":\"fraud.DetectAll\"}'",
	"labels":                   "Labels of the job, as JSON. Example: --labels='{\"team\":\"payments\"}'",
	"worker_machine_type":      "Machine type of the workers. Of t2a, c4a and n4a machines the worker is built for arm64.",
	"num_workers":              "Number of workers at the start.",
	"max_num_workers":          "Largest number of workers.",
	"autoscaling_algorithm":    "NONE or THROUGHPUT_BASED.",
	"disk_size_gb":             "Size of a worker's disk, in GB.",
	"service_account_email":    "Service account of the workers. Its rights are theirs: it has to reach input and output.",
	"network":                  "Network of the workers.",
	"subnetwork":               "Subnetwork of the workers: regions/REGION/subnetworks/NAME.",
	"no_use_public_ips":        "Workers get no public addresses.",
	"dataflow_service_options": "Options of the service, separated by commas.",
	"experiments":              "Experiments, separated by commas.",
	"sdk_container_image":      "Image of the workers' container (default: that of Beam's Go SDK).",
	"worker_binary": "A linux program of this pipeline, for the workers. Default: this program if it is one, or else it is\n" +
		"built with the Go toolchain.",
}

// Remote tells whether the flags choose a runner whose workers are on machines that do not see the
// files of this one, so that a path here means nothing to them. It is for Program.Build.
func Remote() bool { return isDataflow(*runners.Runner) }

func isDataflow(name string) bool { return name == dataflowName || name == "DataflowRunner" }

// dataflowJobName is what the service takes as the name of a job.
var dataflowJobName = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// configureDataflow checks all flags, then credentials and buckets, unless nothing is to be sent.
func configureDataflow(p Program) error {
	ctx := context.Background()
	if err := checkDataflowFlags(ctx, p); err != nil {
		return err
	}
	hideFlags(p)
	if isOn("dry_run") {
		return nil
	}
	client, err := dataflowClient(ctx)
	if err != nil {
		return err
	}
	if err := checkBuckets(ctx); err != nil || isOn("template_location") {
		return err
	}
	return checkName(ctx, client)
}

// checkName looks whether a job with the name runs, which has to be so for an update and may not be
// otherwise. A job that replaces another one continues its results, so it gets its ID.
func checkName(ctx context.Context, client *df.Service) error {
	j := &dataflowJob{service: client, project: *gcpopts.Project, region: *gcpopts.Region, name: *jobopts.JobName}
	other, err := j.active(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("list the jobs of project %s in %s: %w", j.project, j.region, err)
	case other == "" && isOn("update"):
		return fmt.Errorf("--update: no job of project %s in %s is named %s and runs; without --update a new one begins", j.project, j.region, j.name)
	case other != "" && !isOn("update"):
		return j.taken(other)
	case isOn("update") && *jobID == "":
		old, err := j.describe(ctx, other)
		if err != nil {
			return fmt.Errorf("look at job %s: %w", other, err)
		}
		if *jobID = old.Labels[jobLabel]; *jobID == "" {
			return fmt.Errorf("--update: job %s has no label %s, so give the ID that its results go by: --job_id", other, jobLabel)
		}
	}
	return nil
}

func checkDataflowFlags(ctx context.Context, p Program) error {
	errs := append(missingOnDataflow(ctx), wrongOnDataflow()...)
	for _, name := range flagsWithPassword() {
		errs = append(errs, fmt.Errorf("--%s has a password in it: Dataflow stores and shows flags; leave it out, and let the workers' service account or environment have it", name))
	}
	if isOn("transform_name_mapping") && !isOn("update") {
		errs = append(errs, errors.New("--transform_name_mapping is for --update: give both"))
	}
	for _, name := range []string{"labels", "transform_name_mapping"} {
		var names map[string]string
		if err := json.Unmarshal([]byte(cmp.Or(flagText(name), "{}")), &names); err != nil {
			errs = append(errs, fmt.Errorf(`--%s: write JSON with texts only, such as {"a":"b"}: %w`, name, err))
		}
	}
	return errors.Join(errs...)
}

// missingOnDataflow completes project and region as gcloud has them, and says in one error what is
// missing.
func missingOnDataflow(ctx context.Context) []error {
	*gcpopts.Project = gcpopts.GetProjectFromFlagOrEnvironment(ctx)
	*gcpopts.Region = gcpopts.GetRegion(ctx)
	var missing []string
	for _, f := range []struct{ name, value, example string }{
		{"project", *gcpopts.Project, "ID"},
		{"region", *gcpopts.Region, "REGION"},
		{"staging_location", flagText("staging_location"), "gs://BUCKET/PATH"},
	} {
		if f.value == "" {
			missing = append(missing, "--"+f.name+"="+f.example)
		}
	}
	if missing == nil {
		return nil
	}
	return []error{fmt.Errorf("--runner=dataflow needs %s", strings.Join(missing, " and "))}
}

// locations are the flags that name a place in Cloud Storage.
var locations = []string{"staging_location", "temp_location", "template_location"}

func wrongOnDataflow() []error {
	var errs []error
	for _, name := range locations {
		if value := flagText(name); value != "" {
			if bucket, _, err := gcsx.ParseObject(value); err != nil || bucket == "" {
				errs = append(errs, fmt.Errorf("--%s=%s: write gs://BUCKET/PATH", name, value))
			}
		}
	}
	if _, object, err := gcsx.ParseObject(flagText("template_location")); err == nil && object == "" {
		errs = append(errs, fmt.Errorf("--template_location=%s names a bucket and no object in it: write gs://BUCKET/PATH", flagText("template_location")))
	}
	if kind := *jobopts.EnvironmentType; kind != "" && !strings.EqualFold(kind, "docker") {
		errs = append(errs, fmt.Errorf("--environment_type=%s: Dataflow runs workers in containers only; leave it out, or write DOCKER", kind))
	}
	if isOn("sdk_container_image") && isOn("worker_harness_container_image") {
		errs = append(errs, errors.New("--sdk_container_image and --worker_harness_container_image are two names for one thing: give the first"))
	}
	if jobNames.MatchString(*jobopts.JobName) && !dataflowJobName.MatchString(*jobopts.JobName) { // checkNames tells of others.
		errs = append(errs, fmt.Errorf("--job_name=%s: on Dataflow use small letters, digits and '-', with a letter first and no '-' last", *jobopts.JobName))
	}
	return errs
}

// flagText is the value of a flag, as it would be written.
func flagText(name string) string { return flag.Lookup(name).Value.String() }

// isOn tells whether a flag has a value that is not nothing.
func isOn(name string) bool {
	value := flagText(name)
	return value != "" && value != "false" && value != "0"
}

// password is what a URL with one looks like.
var password = regexp.MustCompile(`://[^/@\s]*:[^/@\s]+@`)

func flagsWithPassword() []string {
	var names []string
	flag.Visit(func(f *flag.Flag) {
		if password.MatchString(f.Value.String()) {
			names = append(names, f.Name)
		}
	})
	return names
}

// hideFlags keeps all flags but those of the pipeline away from the service, which would store and
// show them: paths of this machine are of no use there, and a flag that launch does not know may
// hold anything. temp_location goes along because workers look for it.
func hideFlags(p Program) {
	flag.VisitAll(func(f *flag.Flag) {
		if f.Name != "temp_location" && !slices.Contains(p.Flags, f.Name) {
			dataflow.DontUseFlagAsPipelineOption(f.Name)
		}
	})
}

// dataflowClient returns a client of the service, as Beam makes it.
func dataflowClient(ctx context.Context) (*df.Service, error) {
	client, err := dataflowlib.NewClient(ctx, flagText("dataflow_endpoint"))
	if err != nil {
		return nil, fmt.Errorf("no credentials for Google Cloud: run gcloud auth application-default login, "+
			"or name a key file in GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	return client, nil
}

// checkBuckets looks whether the buckets are there. Beam would make them, but in 2.77.0 takes a
// bucket that is missing for a failure.
func checkBuckets(ctx context.Context) error {
	client, err := gcsx.NewClient(ctx, storage.ScopeReadWrite)
	if err != nil {
		return fmt.Errorf("open Cloud Storage: %w", err)
	}
	defer client.Close()
	var errs []error
	var seen []string
	for _, name := range locations {
		bucket, _, err := gcsx.ParseObject(flagText(name))
		if err != nil || slices.Contains(seen, bucket) {
			continue // An error here is of a flag that is not set.
		}
		seen = append(seen, bucket)
		_, err = client.Bucket(bucket).Attrs(ctx)
		switch {
		case errors.Is(err, storage.ErrBucketNotExist):
			errs = append(errs, fmt.Errorf("--%s: there is no bucket %s; make it: gcloud storage buckets create gs://%[2]s --project=%s --location=%s",
				name, bucket, *gcpopts.Project, *gcpopts.Region))
		case err != nil:
			errs = append(errs, fmt.Errorf("--%s: look at bucket %s: %w", name, bucket, err))
		}
	}
	return errors.Join(errs...)
}

// States of an outcome in which no job was submitted.
const (
	dryRun    = "DRY_RUN"
	templated = "TEMPLATE"
)

func runDataflow(ctx context.Context, pipeline *beam.Pipeline, w io.Writer) (outcome, error) {
	if isOn("dry_run") {
		_, err := beam.Run(ctx, dataflowName, pipeline)
		return outcome{state: dryRun, said: "is printed above; nothing was sent, for this is a dry run"}, err
	}
	arch := workerArch(cmp.Or(flagText("worker_machine_type"), flagText("machine_type")))
	binary, remove, err := workerBinary(ctx, arch, w)
	if err != nil {
		return outcome{}, err
	}
	defer remove()
	*jobopts.WorkerBinary = binary
	beamlog.SetLogger(warnings{w}) // Beam logs the whole model, and more.
	if isOn("template_location") {
		return template(ctx, pipeline)
	}
	client, err := dataflowClient(ctx)
	if err != nil {
		return outcome{}, err
	}
	j := &dataflowJob{service: client, project: *gcpopts.Project, region: *gcpopts.Region, name: *jobopts.JobName}
	wait := !*jobopts.Async
	if err := j.submit(ctx, pipeline, w); err != nil {
		return outcome{}, err
	}
	if !wait {
		j.goesOn(w)
		return outcome{job: j.id, state: running}, nil
	}
	state, err := j.wait(ctx, w)
	if ctx.Err() != nil {
		fmt.Fprintln(w)
		j.goesOn(w)
		return outcome{}, errDetached
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{job: j.id, state: state, metrics: j.metrics(ctx, pipeline, w)}, nil
}

// template puts worker, pipeline and template into Cloud Storage. What Beam returns is no result,
// though it is not nil.
func template(ctx context.Context, pipeline *beam.Pipeline) (outcome, error) {
	if _, err := beam.Run(ctx, dataflowName, pipeline); err != nil {
		return outcome{}, err
	}
	return outcome{state: templated, said: fmt.Sprintf("is the template %[1]s now, and was not run; run it:\n"+
		"  gcloud dataflow jobs run NAME --gcs-location=%[1]s --project=%[2]s --region=%[3]s",
		flagText("template_location"), *gcpopts.Project, *gcpopts.Region)}, nil
}

// warnings is a logger of Beam that writes warnings and worse, a line each.
type warnings struct{ w io.Writer }

func (l warnings) Log(_ context.Context, severity beamlog.Severity, _ int, message string) {
	if severity >= beamlog.SevWarn {
		fmt.Fprintln(l.w, message)
	}
}
